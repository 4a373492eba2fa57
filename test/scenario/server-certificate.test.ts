/**
 * A tower that shows HTTPS a certificate of files: nodes that pin the cluster's root join as ever, others know it by its fingerprint, a file of roots or the system's roots;
 * it is replaced without a restart; and development leaves no more unverified than a name without a dot.
 */
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t, { type Test } from 'tap';
import { DAY_MS, makeAuthority } from '../fixtures/certs.ts';
import { pem } from '../fixtures/web-certificates.ts';
import { daemons } from './daemons.ts';
import { freePort } from '../fixtures/free-port.ts';

// A dozen processes, each of which starts Node.
t.setTimeout(240_000);

const at = (name: string): string => join(directory, name);
const directory = t.testdir({});
const key = ['--key-file', at('key')];
const run = daemons(t);

const authority = await makeAuthority('web');
writeFileSync(at('roots.pem'), pem('CERTIFICATE', authority.root));

/** @returns `sha256:HEX` of what stands in the files now */
async function write(life: { notBefore_ms?: number; notAfter_ms?: number } = {}): Promise<string> {
  const { chain, key } = await authority.issue({ uris: [], dns: ['localhost'], ...life });
  writeFileSync(at('chain.pem'), chain.map((der) => pem('CERTIFICATE', der)).join(''));
  writeFileSync(at('key.pem'), pem('PRIVATE KEY', key));
  return `sha256:${new X509Certificate(chain[0] ?? '').fingerprint256.replaceAll(':', '').toLowerCase()}`;
}

const first = await write();
const init = run('tower', ['init', '--cluster', 'test', '--state', at('tower'), '--json', ...key]);
if ((await init.ended()) !== 0) t.bailout(init.said.text);
const { fingerprint } = JSON.parse(init.said.text) as { fingerprint: string };
const port = await freePort();
const towerArgs = ['run', '--state', at('tower'), '--listen', '127.0.0.1', '--port', String(port), ...key];
const tower = run('tower', [...towerArgs, '--certificate-file', at('chain.pem'), '--certificate-key-file', at('key.pem')]);
await tower.until('tower runs');

async function command(...args: string[]): Promise<string> {
  const it = run('selvedge', args);
  if ((await it.ended()) !== 0) throw new Error(it.said.text);
  return it.said.text;
}
writeFileSync(at('token'), (JSON.parse(await command('token', 'create', '--uses', '9', '--state', at('tower'), '--json')) as { token: string }).token);

/** @returns nothing, or what was said against it */
async function joins(name: string, host: string, args: readonly string[] = [], env = {}): Promise<string> {
  const to = ['join', '--tower', `${host}:${port}`, '--fingerprint', fingerprint, '--token-file', at('token'), '--name', name, '--state', at(name), ...key];
  const it = run('selvedge', [...to, ...args], { env });
  return (await it.ended()) === 0 ? '' : it.said.text;
}

async function refused(t: Test, code: string, joining: Promise<string>): Promise<void> {
  t.match(await joining, new RegExp(`\\[${code}\\]`));
}

/** Of what a client is shown that knows nothing of Selvedge. */
async function shown(): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const found = socket.getPeerCertificate().fingerprint256;
  socket.destroy();
  return `sha256:${found.replaceAll(':', '').toLowerCase()}`;
}

t.test('a node joins by the cluster’s root, by the fingerprint of the file’s certificate, by a file of roots, and by the system’s roots', async (t) => {
  t.equal(await joins('root', '127.0.0.1'), '');
  t.equal(await joins('pinned', '127.0.0.1', ['--tls', first]), '');
  t.equal(await joins('file', 'localhost', ['--tls', `roots:${at('roots.pem')}`]), '');
  t.equal(await joins('system', 'localhost', ['--tls', 'system'], { SSL_CERT_FILE: at('roots.pem'), SSL_CERT_DIR: directory }), '');
});

t.test('none of them takes what it does not know', async (t) => {
  await refused(t, 'certificate_invalid', joins('x2', '127.0.0.1', ['--tls', `roots:${at('roots.pem')}`]));
  await refused(t, 'certificate_invalid', joins('x3', 'localhost', ['--tls', 'system']));
  await refused(t, 'argument_invalid', joins('x5', 'localhost', ['--tls', 'unverified']));
});

t.test('under the development flag a name without a dot is not verified, an address is', async (t) => {
  await refused(t, 'certificate_invalid', joins('d1', '127.0.0.1', ['--tls', 'system', '--insecure-development']));
  t.equal(await joins('d2', 'localhost', ['--tls', 'system', '--insecure-development']), '');
});

t.test('other files are shown without a restart, a node’s channel lives on, and one that ended is in the status', async (t) => {
  const node = run('selvedged', ['--state', at('root'), ...key]);
  await node.until('channel carried');
  const second = await write({ notAfter_ms: Date.now() + 5 * DAY_MS });
  await tower.until('server certificate changed');
  t.equal(await shown(), second);
  const { self } = JSON.parse(await command('status', '--state', at('tower'), '--json')) as { self: { certificate_warning: string } };
  t.match(self.certificate_warning, /the server certificate .*chain\.pem ends at .* in 4 days/);
  t.notMatch(tower.said.text, /channel ended/);
  t.equal(await joins('again', '127.0.0.1', ['--tls', second]), '');
  node.child.kill('SIGTERM');
  t.equal(await node.ended(), 0);
});

t.test('half of the pair is wrong usage, and a self-signed certificate is shown for development alone', async (t) => {
  tower.child.kill('SIGTERM');
  t.equal(await tower.ended(), 0);
  const half = run('tower', [...towerArgs, '--certificate-file', at('chain.pem')]);
  t.equal(await half.ended(), 2);
  t.match(half.said.text, /come together.*\[argument_invalid\]/s);
  const lab = run('tower', [...towerArgs, '--insecure-development']);
  await lab.until('tower runs');
  t.match(lab.said.text, /self-signed certificate, which proves nothing/);
  t.equal(await joins('s2', 'localhost', ['--insecure-development']), '');
  t.equal(await joins('s3', '127.0.0.1'), '', 'the root is pinned, and shown to whoever asks for it');
  lab.child.kill('SIGTERM');
  t.equal(await lab.ended(), 0);
});
