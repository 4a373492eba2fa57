/** Certificates from files on a real listener, shown to real TLS clients. */
import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, renameSync, rmdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer as createHttp, request } from 'node:http';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { certificateFacts, warningText } from '../../../src/identity/expiry.ts';
import { limits } from '../../../src/base/limits.ts';
import { CertificateFiles } from '../../../src/transport/certificate-files.ts';
import { listen } from '../../../src/transport/listener.ts';
import { type Credentials, CLUSTER_HTTP_ALPN, type Session, type SessionHandler } from '../../../src/transport/session.ts';
import { TcpTransport } from '../../../src/transport/tcp.ts';
import { DAY_MS, makeAuthority } from '../../fixtures/certs.ts';
import { pem, rsaCredentials } from '../../fixtures/web-certificates.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

const cluster = await makeAuthority('test');
const web = await makeAuthority('web');
const own = await cluster.issue({ node: '0000000000aa' });
const dialer = await cluster.issue({ node: '0000000000bb' });
const webLeaf = (more = {}): Promise<Credentials> => web.issue({ uris: [], dns: ['tower.example'], ...more });
const silent: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };
const codeOf = (promise: Promise<unknown>): Promise<{ code?: string; message?: string }> =>
  promise.then(
    () => ({}),
    (error: { code: string; message: string }) => error,
  );

/** A directory with both files, and the virtual clock that says when they are looked at. */
function directory(t: Test, { chain, key }: Credentials) {
  const at = t.testdir({});
  const paths = { chain: join(at, 'chain.pem'), key: join(at, 'key.pem') };
  const texts = ({ chain, key }: Credentials): [string, string] => [chain.map((der) => pem('CERTIFICATE', der)).join(''), pem('PRIVATE KEY', key)];
  const write = (credentials: Credentials): void => {
    const [chainText, keyText] = texts(credentials);
    writeFileSync(paths.chain, chainText);
    writeFileSync(paths.key, keyText, { mode: 0o600 });
  };
  /** As tools that renew do: another file in the place of the old one. */
  const renameOver = (credentials: Credentials): void => {
    const [chainText, keyText] = texts(credentials);
    writeFileSync(`${paths.chain}.new`, chainText);
    writeFileSync(`${paths.key}.new`, keyText, { mode: 0o600 });
    renameSync(`${paths.chain}.new`, paths.chain);
    renameSync(`${paths.key}.new`, paths.key);
  };
  write({ chain, key });
  const log: string[] = [];
  const timers = new VirtualTimers();
  return {
    paths,
    write,
    renameOver,
    texts,
    log,
    timers,
    options: { ...paths, timers, log: (message: string, { reason = '' }) => void log.push(`${message} ${reason}`) },
  };
}

/** A listener that shows HTTP the certificate of files, as `Host` does. */
async function serving(t: Test, first: Credentials) {
  const place = directory(t, first);
  const files = await CertificateFiles.open(place.options);
  const http = createHttp((_request, response) => response.end('hello'));
  const accepted: Session[] = [];
  const onSession = (session: Session): void => {
    session.approve(silent);
    accepted.push(session);
  };
  const listener = await listen({
    host: '127.0.0.1',
    tcpPort: 0,
    udpPort: null,
    credentials: own,
    httpCredentials: files.credentials,
    onSession,
    onHttp: (socket) => http.emit('connection', socket),
    listenQuic: null,
  });
  files.watch((credentials) => listener.setHttpCredentials(credentials));
  t.teardown(async () => {
    files.close();
    for (const session of accepted) session.close('session_closed', 'end of the test');
    await listener.close();
  });
  const client = async (alpn: string[] = ['http/1.1']): Promise<TLSSocket> => {
    const socket = connectTls({ ...listener.tcp, rejectUnauthorized: false, ALPNProtocols: alpn });
    await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    t.teardown(() => void socket.on('error', () => {}).destroy());
    return socket;
  };
  const shown = async (alpn?: string[]): Promise<string> => fingerprintOf(new Uint8Array((await client(alpn)).getPeerCertificate().raw));
  return { ...place, files, listener, client, shown, accepted };
}

const fingerprintOf = (der: Uint8Array | undefined): string => new X509Certificate(der ?? '').fingerprint256;
const leafOf = ({ chain: [leaf] }: Credentials): string => fingerprintOf(leaf);

function ask(socket: TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ createConnection: () => socket, headers: { connection: 'keep-alive' } }, (response) => response.setEncoding('utf8').once('data', resolve))
      .once('error', reject)
      .end();
  });
}

t.test('HTTP is shown the certificate of the files; fabric, and who asks for it by ALPN, the cluster’s', async (t) => {
  const first = await webLeaf();
  const { shown, listener, client } = await serving(t, first);
  t.equal(await shown(), leafOf(first));
  t.equal(await shown([]), leafOf(first), 'no ALPN');
  const asking = await client([CLUSTER_HTTP_ALPN, 'http/1.1']);
  t.equal(fingerprintOf(asking.getPeerCertificate().raw), leafOf(own));
  t.equal(asking.alpnProtocol, CLUSTER_HTTP_ALPN);
  t.equal(await ask(asking), 'hello', 'and it is HTTP as ever');
  const tcp = new TcpTransport();
  const session = await tcp.dial(listener.tcp, dialer, new AbortController().signal);
  t.equal(fingerprintOf(session.peerChain[0]), leafOf(own));
  await tcp.close();
});

t.test('a key that others may read is warned of once, and again when it has been mended and is so anew', async (t) => {
  const { paths, options, log } = directory(t, await webLeaf());
  chmodSync(paths.key, 0o640);
  const files = await CertificateFiles.open(options);
  t.teardown(() => files.close());
  const warnings = () => log.filter((line) => /open to others .*0640/.test(line)).length;
  t.equal(warnings(), 1);
  await files.look();
  t.equal(warnings(), 1);
  chmodSync(paths.key, 0o600);
  await files.look();
  chmodSync(paths.key, 0o640);
  await files.look();
  t.equal(warnings(), 2);
});

for (const how of ['renameOver', 'write'] as const) {
  t.test(`files that change (${how}) are shown to new connections; those that are there live on`, async (t) => {
    const [first, second] = [await webLeaf(), await webLeaf()];
    const world = await serving(t, first);
    const http = await world.client();
    const tcp = new TcpTransport();
    t.teardown(() => tcp.close());
    const session = await tcp.dial(world.listener.tcp, dialer, new AbortController().signal);
    session.approve(silent);
    world[how](second);
    t.equal(await world.shown(), leafOf(first), 'not before the next look');
    // The look is due at its time; it is over when this is.
    await world.timers.advance(limits.certificate_files_look_ms);
    await world.files.look();
    t.equal(await world.shown(), leafOf(second));
    t.equal(await ask(http), 'hello', 'the connection of before answers');
    t.notOk(session.isClosed);
    t.same(world.log, ['server certificate changed ']);
    t.equal(await world.shown([CLUSTER_HTTP_ALPN]), leafOf(own));
  });
}

t.test('what is half-written, mismatched, unreadable or gone is told once, and the one before stays until it is good again', async (t) => {
  const [first, second] = [await webLeaf(), await webLeaf()];
  const { paths, texts, write, log, files, shown } = await serving(t, first);
  const [chainText, keyText] = texts(second);
  const spoilt = (spoil: () => void) => (): void => {
    write(second);
    spoil();
  };
  const cases: [string, () => void, RegExp][] = [
    ['the chain is new, the key not yet', () => writeFileSync(paths.chain, chainText), /not of the key in .*key\.pem/],
    ['half a chain', spoilt(() => truncateSync(paths.chain, chainText.length - 40)), /last certificate is not whole/],
    ['half a key', spoilt(() => truncateSync(paths.key, Math.floor(keyText.length / 2))), /the key in it cannot be read/],
    ['an empty chain', spoilt(() => writeFileSync(paths.chain, '')), /no certificate in PEM/],
    ['a chain of something else', spoilt(() => writeFileSync(paths.chain, pem('CERTIFICATE', Buffer.from('hello')))), /a certificate in it cannot be read/],
    ['a chain that is too long', spoilt(() => writeFileSync(paths.chain, chainText.repeat(5))), /more than 8 certificates/],
    ['too many octets', spoilt(() => writeFileSync(paths.key, 'x'.repeat(70_000))), /at most 65536/],
    ['no key', spoilt(() => rmSync(paths.key)), /it is not there/],
  ];
  for (const [name, spoil, why] of cases) {
    log.length = 0;
    spoil();
    await files.look();
    await files.look();
    t.equal(log.length, 1, `${name}: told once (${log.join('; ')})`);
    t.match(log[0], why, name);
    t.notMatch(log[0], keyText.slice(40, 80));
    t.equal(await shown(), leafOf(first), name);
  }
  write(second);
  rmSync(paths.chain);
  mkdirSync(paths.chain);
  await files.look();
  t.match(log.at(-1), /not a regular file/);
  rmdirSync(paths.chain);
  write(second);
  await files.look();
  t.equal(await shown(), leafOf(second));
});

t.test('files without permission are named and the one before stays', { skip: process.getuid?.() === 0 && 'root may read everything' }, async (t) => {
  const first = await webLeaf();
  const { paths, log, files, shown } = await serving(t, first);
  chmodSync(paths.key, 0);
  await files.look();
  t.match(log, [/permission denied|not allowed/]);
  t.equal(await shown(), leafOf(first));
});

t.test('a start with files that are not good is refused, and names the file', async (t) => {
  const first = await webLeaf();
  const { options, paths, write } = directory(t, first);
  writeFileSync(paths.key, pem('PRIVATE KEY', (await webLeaf()).key));
  t.match(await codeOf(CertificateFiles.open(options)), { code: 'certificate_files_invalid', message: /chain\.pem.*not of the key/ });
  write(first);
  rmSync(paths.chain);
  t.match(await codeOf(CertificateFiles.open(options)), { code: 'certificate_files_invalid', message: /chain\.pem.*not there/ });
});

t.test('an expired certificate is shown where there is no better, and warned of; it takes the place of no good one', async (t) => {
  const timers = new VirtualTimers();
  const now_ms = timers.clock.wall();
  const past = { notBefore_ms: now_ms - 20 * DAY_MS, notAfter_ms: now_ms - 1 * DAY_MS };
  const good = { notBefore_ms: now_ms - DAY_MS, notAfter_ms: now_ms + 60 * DAY_MS };
  const [expired, current, expiredToo] = await Promise.all([webLeaf(past), webLeaf(good), webLeaf(past)]);
  const world = await serving(t, expired);
  const warning = () => world.files.watched.map((one) => warningText(certificateFacts(one, world.timers.clock.wall())))[0];
  t.equal(await world.shown(), leafOf(expired));
  t.match(warning(), /the server certificate .*chain\.pem ended at/);
  world.write(current);
  await world.files.look();
  t.equal(await world.shown(), leafOf(current));
  t.same(
    world.files.watched.map((one) => certificateFacts(one, now_ms).warning_days),
    [null],
  );
  world.write(expiredToo);
  await world.files.look();
  t.equal(await world.shown(), leafOf(current));
  t.match(world.log.at(-1), /not taken.*it expired at/);
});

t.test('RSA and P-384, as public authorities issue them, work as well', async (t) => {
  const rsa = await rsaCredentials('tower.example');
  const world = await serving(t, rsa);
  t.equal(await world.shown(), leafOf(rsa));
  const p384 = await webLeaf({ namedCurve: 'P-384' });
  world.write(p384);
  await world.files.look();
  t.equal(await world.shown(), leafOf(p384));
  t.equal(await world.shown([CLUSTER_HTTP_ALPN]), leafOf(own));
});

t.test('looking ends with close', async (t) => {
  const { options, timers, write, log } = directory(t, await webLeaf());
  const files = await CertificateFiles.open(options);
  files.watch(() => t.fail('nobody is told after the end'));
  t.equal(timers.waiting, 1);
  const looking = files.look();
  files.close();
  write(await webLeaf());
  await looking;
  t.equal(timers.waiting, 0);
  t.same(log, []);
});
