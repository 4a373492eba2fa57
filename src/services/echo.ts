/** The service `echo`: everything comes back on the flow it came on, in any class and kind. What `ping` talks to. */
import { limits } from '../base/limits.ts';
import type { FlowHandle, ServiceMesh } from './mesh.ts';

export const ECHO_SERVICE = 'echo';

export function serveEcho(mesh: ServiceMesh): void {
  const flows = new Map<string, number>();
  mesh.handle(ECHO_SERVICE, (flow) => {
    const count = flows.get(flow.peer) ?? 0;
    const max = limits.echo_flows_per_peer_max;
    // What is echoed waits here for a peer that does not read: for few flows only.
    if (count >= max) return flow.reset('limit_reached', `more than ${max} echoes at once`);
    flows.set(flow.peer, count + 1);
    void flow.closed.then(() => {
      const left = (flows.get(flow.peer) ?? 1) - 1;
      if (left === 0) flows.delete(flow.peer);
      else flows.set(flow.peer, left);
    });
    const echo = flow.kind === 'stream' ? echoStream(flow) : echoMessages(flow);
    // A flow that ends in the middle has told its error to both ends already.
    echo.catch(() => undefined);
  });
}

async function echoStream(flow: FlowHandle): Promise<void> {
  while (await flow.readable()) {
    for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) {
      if (!flow.write(bytes)) await flow.drained();
    }
  }
  flow.end();
}

async function echoMessages(flow: FlowHandle): Promise<void> {
  for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
    // `messages` waits for the peer to read; `latest` and `datagrams` drop by their own rule.
    if (!flow.send(message) && flow.kind === 'messages') await flow.drained();
  }
  flow.end();
}
