/** Who enrolls, in a process of its own: requests made beforehand, some connections that ask one after the other. Prints how long it took. */
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { bootRequest } from '../../src/enroll/boot-request.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { generateKeyPair } from '../../src/identity/keys.ts';

const [port = '', token = '', count = '0', connections = '1', prefix = 'n', extent = 'whole'] = process.argv.slice(2);

/** A key and its request. */
function makeRequest(): { key: Uint8Array; csr: Uint8Array } {
  const { privateKey: key } = generateKeyPair();
  return { key, csr: createCsr(key) };
}

const bodies = Array.from({ length: Number(count) }, (_, index) => {
  const [own, boot] = [makeRequest(), makeRequest()];
  const csr = Buffer.from(own.csr).toString('base64');
  return JSON.stringify({
    proof: { kind: 'token', token },
    csr,
    ...(extent === 'whole' && { boot: bootRequest(own, boot, false) }),
    name: `${prefix}-${index}`,
    site: `${prefix}-${Math.floor(index / 100)}`,
    listen: [],
  });
});

const agent = new Agent({ keepAlive: true, maxSockets: Number(connections), rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
const latencies_ms: number[] = [];

async function enroll(body: string): Promise<void> {
  const began = performance.now();
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const outgoing = request({ host: '127.0.0.1', port, method: 'POST', path: '/v1/enroll', headers, agent });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
  const answer = await text(response);
  if (response.statusCode !== 200) throw new Error(`${response.statusCode} ${answer.slice(0, 300)}`);
  latencies_ms.push(performance.now() - began);
}

const began = performance.now();
const queue = bodies.values();
await Promise.all(
  Array.from({ length: Number(connections) }, async () => {
    for (const body of queue) await enroll(body);
  }),
);
const seconds = (performance.now() - began) / 1_000;
agent.destroy();
process.send?.({ seconds, latencies_ms });
process.disconnect();
