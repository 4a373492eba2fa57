/**
 * What somebody without a certificate of the cluster can do to a tower: little, for a short time, and nobody else notices. The tower is
 * the real program, attacked from 127.0.0.2, while another address asks for its health.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { toBase64 } from '../../src/identity/base64.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { generateKeyPair } from '../../src/identity/keys.ts';
import { limits } from '../../src/base/limits.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import { secureContextOf } from '../../src/transport/tcp-tls.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { freePort } from '../fixtures/free-port.ts';

const MIB = 1024 * 1024;
const HONEST = '127.0.0.1';
const ATTACKER = '127.0.0.2';
const program = fileURLToPath(new URL('../../daemon/tower.ts', import.meta.url));
const strangers = await makeAuthority('strangers');
const strange = await strangers.issue({ node: '0e0000000666' });

const directory = t.testdir({});
const state = join(directory, 'tower');
const unseal = ['--state', state, '--key-file', join(directory, 'key')];
await promisify(execFile)(process.execPath, [program, 'init', '--cluster', 'test', ...unseal]);
const port = await freePort();
const tower: ChildProcess = spawn(process.execPath, [program, 'run', '--listen', '127.0.0.1', '--port', String(port), ...unseal], {
  stdio: ['ignore', 'pipe', 'pipe'],
});
const said = { out: '', errors: '' };
tower.stderr?.setEncoding('utf8').on('data', (text: string) => {
  said.errors += text;
});
await new Promise<void>((resolve) => {
  tower.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said.out += text;
    if (said.out.includes('tower runs')) resolve();
  });
});
const rssBefore = await rss();

/** One attack, after which somebody else is served as ever. */
function attack(promise: string, run: (t: Test) => Promise<void>): void {
  t.test(promise, async (t) => {
    await run(t);
    t.equal((await request(HONEST, 'GET /v1/health HTTP/1.1\r\nhost: tower\r\nconnection: close\r\n\r\n')).status, 200, 'others are served');
  });
}

t.teardown(async () => {
  const exited = once(tower, 'exit');
  tower.kill('SIGTERM');
  const late = setTimeout(() => tower.kill('SIGKILL'), 9_000);
  const [code] = await exited;
  clearTimeout(late);
  if (code !== 0 || said.errors !== '') throw new Error(`the tower ended with ${code}: ${said.errors}`);
});

attack('a thousand connections that say nothing are turned away or cut off in time', async (t) => {
  const sockets = Array.from({ length: 1_000 }, () => connectTcp({ host: HONEST, port, localAddress: ATTACKER }).on('error', () => {}));
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve).resume())));
  t.pass('each is closed');
});

attack('garbage, another ALPN, no certificate and a foreign one are each refused', async (t) => {
  const garbage = connectTcp({ host: HONEST, port, localAddress: ATTACKER }).on('error', () => {});
  garbage.write(randomBytes(256 * 1024));
  await closed(garbage);
  await t.rejects(tls({ ALPNProtocols: ['h2'] }), /no application protocol|ALERT/i);
  const nameless = await tls({ ALPNProtocols: ['selvedge/1'] });
  nameless.write(preface());
  t.match(await wordsOf(nameless), /certificate/);
  const foreign = await tls({ ALPNProtocols: ['selvedge/1'], secureContext: secureContextOf(strange) });
  foreign.write(preface());
  t.match(await wordsOf(foreign), /belongs to cluster strangers/);
});

attack('64 MiB on a session that nobody approved are not read', async (t) => {
  const socket = await tls({ ALPNProtocols: ['selvedge/1'], secureContext: secureContextOf(strange) });
  const block = Buffer.alloc(MIB);
  socket.write(preface());
  for (let count = 0; count < 64 && !socket.destroyed; count++) socket.write(block);
  await closed(socket);
  t.ok((await rss()) - rssBefore < 100 * MIB, `grew by ${Math.round(((await rss()) - rssBefore) / MIB)} MiB`);
});

attack('HTTP that could be read in two ways, oversized heads and bodies, and unknown paths are refused', async (t) => {
  const both =
    'POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\nhost: tower\r\n\r\n';
  const cases: [string, number, string][] = [
    [both, 400, 'request_invalid'],
    ['POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcde', 400, 'request_invalid'],
    ['GET /v1/health HTTP/1.1\r\nhost: tower\r\nx : y\r\n\r\n', 400, 'request_invalid'],
    ['GET /v1/health HTTP/1.1\r\n\r\n', 400, 'request_invalid'],
    [`GET /v1/health HTTP/1.1\r\nhost: tower\r\nx: ${'y'.repeat(limits.api_header_bytes_max)}\r\n\r\n`, 400, 'request_invalid'],
    [
      `POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-type: application/json\r\ncontent-length: ${limits.api_body_bytes_max + 1}\r\n\r\n{`,
      413,
      'body_too_large',
    ],
    ['POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"__proto__":{}} ', 400, 'request_invalid'],
    ['POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}', 400, 'request_invalid'],
    ['GET /v1/tokens HTTP/1.1\r\nhost: tower\r\nconnection: close\r\n\r\n', 401, 'unauthorized'],
    ['GET /v1/secrets HTTP/1.1\r\nhost: tower\r\nconnection: close\r\n\r\n', 404, 'not_found'],
    ['GET /../../etc/passwd HTTP/1.1\r\nhost: tower\r\nconnection: close\r\n\r\n', 404, 'not_found'],
    ['CONNECT tower:443 HTTP/1.1\r\nhost: tower\r\n\r\n', 0, ''],
  ];
  for (const [text, status, code] of cases) {
    const answer = await request(ATTACKER, text);
    t.match(answer, { status, code }, JSON.stringify(text.slice(0, 60)));
    t.equal(answer.answers, status === 0 ? 0 : 1, 'and nothing of it is taken for a second request');
  }
});

attack('tokens cannot be guessed fast, and a refusal tells nothing of them', async (t) => {
  const csr = toBase64(createCsr(generateKeyPair().privateKey));
  const guess = (): string => {
    const body = JSON.stringify({
      proof: {
        kind: 'token',
        token: `svt_${randomBytes(6).toString('hex')}_${Buffer.concat([Buffer.from('\x01\x04test'), randomBytes(24)]).toString('base64url')}`,
      },
      csr,
      name: 'a',
      listen: [],
    });
    return `POST /v1/enroll HTTP/1.1\r\nhost: tower\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  };
  const each = 50;
  const sockets = await Promise.all(
    Array.from({ length: limits.api_enroll_per_address_per_minute_max / each + 2 }, () => tls({ ALPNProtocols: ['http/1.1'] })),
  );
  const answers = sockets.map(
    (socket) =>
      new Promise<string>((resolve) => {
        let text = '';
        let asked = 0;
        // As far ahead as anybody may ask: who asks further is cut off.
        const askAhead = (answered: number) => {
          for (; asked < Math.min(each, answered + limits.api_answers_waiting_max); asked++) socket.write(guess());
        };
        socket.setEncoding('utf8').on('data', (part: string) => {
          text += part;
          const begun = text.split('HTTP/1.1 ').length - 1;
          if (begun === each && text.endsWith('}')) resolve(text);
          askAhead(begun - 1);
        });
        askAhead(0);
      }),
  );
  const heard = (await Promise.all(answers)).join('');
  for (const socket of sockets) socket.destroy();
  const statuses = [...heard.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
  t.ok(statuses.includes('429'), 'too many are told to wait');
  t.notOk(statuses.includes('200'));
  t.match(
    [...heard.matchAll(/"code":"([a-z_]+)"/g)].map(([, code]) => code),
    /^((token_invalid|rate_limited),?)+$/,
  );
});

attack('no more API connections than one address may have', async (t) => {
  const sockets = await Promise.all(Array.from({ length: 60 }, () => tls({ ALPNProtocols: ['http/1.1'] })));
  const more = await Promise.all(Array.from({ length: 60 }, () => tls({ ALPNProtocols: ['http/1.1'] })));
  const last = await Promise.all(Array.from({ length: 30 }, () => tls({ ALPNProtocols: ['http/1.1'] })));
  await Promise.race(last.map((socket) => closed(socket)));
  t.pass('one too many is closed at once');
  for (const socket of [...sockets, ...more, ...last]) socket.destroy();
});

attack('UDP garbage, forged first packets and handshakes that are never finished leave nothing behind', async (t) => {
  const socket = createSocket('udp4');
  socket.bind(0, ATTACKER);
  await once(socket, 'listening');
  const send = (bytes: Uint8Array): Promise<void> => new Promise((resolve) => socket.send(bytes, port, HONEST, () => resolve()));
  for (let count = 0; count < 3_000; count++) await send(randomBytes(1 + (count % 1_400)));
  // The head of a QUIC version 1 Initial, and nothing that it could be opened with.
  for (let count = 0; count < 3_000; count++)
    await send(Buffer.concat([Buffer.from([0xc3, 0, 0, 0, 1, 8]), randomBytes(8), Buffer.from([0, 0, 0x44, 0x9e]), randomBytes(1_182)]));
  socket.close();
  for (let count = 0; count < 150; count++) {
    const transport = new QuicTransport();
    const abort = new AbortController();
    const dialing = transport.dial({ host: HONEST, port }, strange, abort.signal).catch(() => null);
    setImmediate(() => abort.abort());
    await dialing;
    await transport.close();
  }
  const transport = new QuicTransport();
  t.teardown(() => transport.close());
  const refused = await transport.dial({ host: HONEST, port }, strange, new AbortController().signal).then(
    (session) =>
      new Promise<{ code: string }>((resolve) =>
        session.approve({ data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed: resolve }),
      ),
    (error: { code: string }) => error,
  );
  t.match(refused.code, /certificate_invalid|wrong_cluster/, 'a foreign certificate is refused with its code, so the port is served');
});

attack('after all of it the tower has not grown', async (t) => {
  t.ok((await rss()) - rssBefore < 100 * MIB, `grew by ${Math.round(((await rss()) - rssBefore) / MIB)} MiB`);
  t.notMatch(said.out, /internal_error/);
  t.equal(said.errors, '');
});

async function rss(): Promise<number> {
  const status = await readFile(`/proc/${tower.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

async function tls(options: object, localAddress = ATTACKER): Promise<TLSSocket> {
  const raw = connectTcp({ host: HONEST, port, localAddress }).on('error', () => {});
  const socket = connectTls({ socket: raw, rejectUnauthorized: false, ...options });
  await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  return socket.on('error', () => {});
}

function preface(): Uint8Array {
  return Buffer.concat([Uint8Array.of(1, 0, 0, 0), randomBytes(16)]);
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.resume();
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });

async function wordsOf(socket: TLSSocket): Promise<string> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await closed(socket);
  return Buffer.concat(parts).toString('latin1');
}

async function request(from: string, text: string): Promise<{ status: number; code: string; answers: number }> {
  const socket = await tls({ ALPNProtocols: ['http/1.1'] }, from);
  let heard = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    heard += part;
    // What may follow an answer follows it at once; an answer to the end of the connection is waited for.
    if (/\r\n\r\n.*\}$/s.test(heard)) socket.end();
  });
  socket.write(text);
  await closed(socket);
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(heard)?.[1] ?? 0),
    code: /"code":"([a-z_]+)"/.exec(heard)?.[1] ?? '',
    answers: heard.split('HTTP/1.1 ').length - 1,
  };
}
