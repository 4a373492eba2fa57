/** Clients that ask and do not take their answers, over real sockets. */
import { once } from 'node:events';
import { type AddressInfo, connect, type NetConnectOpts, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { makeApi } from '../../../src/api/http.ts';
import { limits } from '../../../src/base/limits.ts';

/** More than the kernel keeps for a reader that does not read. */
const LARGE = 'x'.repeat(32 * 1024 * 1024);
const ANSWER_MS_MAX = 100;

async function serve(t: Test) {
  let asked = 0;
  const api = await makeApi({
    title: 'test',
    answer_ms_max: ANSWER_MS_MAX,
    routes: (scope) => {
      scope.get('/large', async () => LARGE);
      scope.get('/never', async () => {
        asked++;
        return await new Promise<string>(() => undefined);
      });
      scope.get('/small', async () => 'small');
    },
  });
  t.teardown(() => api.close());
  api.server.listen(0, '127.0.0.1');
  await once(api.server, 'listening');
  const { port } = api.server.address() as AddressInfo;
  const open = async (options: Partial<NetConnectOpts> = {}): Promise<{ client: Socket; served: Socket }> => {
    const accepted = once(api.server, 'connection') as Promise<[Socket]>;
    const client = connect({ port, host: '127.0.0.1', ...options });
    client.on('error', () => undefined);
    t.teardown(() => client.destroy());
    const [[served]] = await Promise.all([accepted, once(client, 'connect')]);
    return { client, served };
  };
  return { open, asked: () => asked };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;

t.test('an answer that the client does not take in time ends the connection', async (t) => {
  const { open } = await serve(t);
  const { client, served } = await open();
  client.write(get('/large'));
  await once(served, 'close');
  client.resume();
  if (!client.closed) await once(client, 'close');
  t.ok(client.bytesRead < LARGE.length);
});

t.test('a client that takes a little at a time, so that its connection is never idle, is cut off as well', async (t) => {
  const { open } = await serve(t);
  const { client, served } = await open({ onread: { buffer: Buffer.alloc(32), callback: () => true } });
  client.write(get('/large'));
  await once(served, 'close');
  t.ok(client.bytesRead < LARGE.length);
});

t.test('only a few answers are owed to one connection: who asks for more at once is cut off, and no more of its requests are looked at', async (t) => {
  const { open, asked } = await serve(t);
  const { client, served } = await open();
  client.write(get('/never').repeat(500));
  await once(served, 'close');
  t.equal(asked(), limits.api_answers_waiting_max);
});

t.test('a connection has so many requests and no more, taken or not', async (t) => {
  const { open } = await serve(t);
  const { client } = await open();
  let text = '';
  client.setEncoding('utf8').on('data', (part: string) => (text += part));
  const closed = once(client, 'close');
  const answers = () => text.split('HTTP/1.1 ').length - 1;
  for (let asked = 0; asked < limits.api_requests_per_connection_max; asked += 10) {
    client.write(get('/small').repeat(10));
    while (answers() < asked + 10) await once(client, 'data');
  }
  t.match(text.slice(text.lastIndexOf('HTTP/1.1')), /200 OK.*connection: close/is);
  client.write(get('/small'));
  await closed;
  t.equal(answers(), limits.api_requests_per_connection_max);
});

t.test('who takes its answers may ask ahead, and go on for as long as it likes', async (t) => {
  const { open } = await serve(t);
  const { client } = await open();
  let text = '';
  client.setEncoding('utf8').on('data', (part: string) => (text += part));
  for (let round = 1; round <= 20; round++) {
    client.write(get('/small').repeat(limits.api_answers_waiting_max));
    while (text.split('HTTP/1.1 200').length - 1 < round * limits.api_answers_waiting_max) await once(client, 'data');
  }
  t.notOk(client.destroyed);
});
