/** Spec 5.5 on real sockets: a flood of one class stalls no other, whatever stands in the transport below. */
import t from 'tap';
import { SelvedgeError } from '../../src/base/errors.ts';
import type { FlowHandle } from '../../src/transport/flow-handle.ts';
import { alpha, beta, dial, isEstablished, overEach, startHost } from './hosts.ts';

const PIECE_BYTES = 16 * 1024;
const FILE_BYTES = 2 * 1024 * 1024;

/** Writes until the flow is reset. */
async function flood(flow: FlowHandle): Promise<void> {
  try {
    for (;;) if (!flow.write(new Uint8Array(PIECE_BYTES))) await flow.drained();
  } catch (error) {
    if (!(error instanceof SelvedgeError && error.code === 'flow_lost')) throw error;
  }
}

/** Reads all of one kind of flow. */
class Reader {
  octets = 0;

  async read(flow: FlowHandle): Promise<void> {
    const into = new Uint8Array(256 * 1024);
    while (await flow.readable()) for (let read = flow.readInto(into); read > 0; read = flow.readInto(into)) this.octets += read;
  }
}

overEach(t, 'while input and render flood the path, a file, a message of health and the clipboard get through', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  const [ofFloods, ofFile] = [new Reader(), new Reader()];
  const arrived = Promise.withResolvers<void>();
  // A flood ends by being reset.
  b.host.mesh.handle('flood', (flow) => void ofFloods.read(flow).catch(() => undefined));
  b.host.mesh.handle('file', (flow) => void ofFile.read(flow).then(arrived.resolve));
  dial(a, b, beta);
  await a.until(isEstablished);
  const floods = [a.host.mesh.open(beta.node, 'input', 'stream', 'flood'), a.host.mesh.open(beta.node, 'render', 'stream', 'flood')];
  const writers = floods.map(flood);
  const file = a.host.mesh.open(beta.node, 'file_transfer', 'stream', 'file');
  for (let written = 0; written < FILE_BYTES; written += PIECE_BYTES) if (!file.write(new Uint8Array(PIECE_BYTES))) await file.drained();
  file.end();
  for (const cls of ['health', 'clipboard'] as const) {
    const echo = a.host.mesh.open(beta.node, cls, 'messages', 'echo');
    echo.send(Uint8Array.of(7));
    t.same(await echo.receive(), Uint8Array.of(7), cls);
    echo.end();
  }
  await arrived.promise;
  t.equal(ofFile.octets, FILE_BYTES);
  t.ok(ofFloods.octets > FILE_BYTES, `beside ${(ofFloods.octets / 1e6).toFixed(0)} MB of flood`);
  for (const flow of floods) flow.reset('flow_lost', 'enough');
  await Promise.all(writers);
});
