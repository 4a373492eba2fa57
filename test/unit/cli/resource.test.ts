/** The commands of nodes and resources, by a process of their own, against a real tower's socket. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { adminApi } from '../../../src/tower/api.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { registerExplain } from '../../../src/node/policy-route.ts';
import { registerHealth } from '../../../src/tower/health-api.ts';
import { TowerPolicy } from '../../../src/tower/tower-policy.ts';
import { HOUR_MS, makeTower } from '../tower/support.ts';

t.setTimeout(240_000);

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

t.test('an operator makes, shows, changes, lists and deletes resources, and gives a node its role', async (t) => {
  const tower = await makeTower(t);
  const socket = join(freshDirectory(t), 'tower.sock');
  const policy = await TowerPolicy.open(tower);
  const api = await adminApi(tower, socket, {
    register: (routes) => {
      registerExplain(routes, (from, to, asked) => policy.explain(from, to, asked));
      registerHealth(routes, tower, { of: () => null });
    },
  });
  t.teardown(() => api.close());
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
  const { node } = await tower.enroll({ proof: { kind: 'token', token: text }, csr, name: 'till-1', site: 'harbor', listen: [] }, '192.0.2.1');

  const selvedge = async (...words: string[]) => {
    const child = spawn(process.execPath, [program, ...words, '--socket', socket], { stdio: ['ignore', 'pipe', 'pipe'] });
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    const [status] = (await once(child, 'close')) as [number];
    return { status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
  };
  const json = async (...words: string[]) => JSON.parse((await selvedge(...words, '--json')).stdout) as Record<string, unknown>;

  t.match(await json('tenant', 'create', 'port', '--description', 'Port authority'), { name: 'port', description: 'Port authority' });
  t.match(await json('site', 'set', 'harbor', '--tenant', 'port', '--proofs', 'token,x509', '--unseal', 'site'), {
    tenant: 'port',
    proofs: ['token', 'x509'],
    unseal: 'site',
    x509_binding: 'host-id',
  });
  t.match(await json('role', 'create', 'till', '--classes', 'input,render'), { classes: ['input', 'render'], peers: null });
  t.match(await json('service', 'create', 'print', '--hosts', 'role:till', '--target', '[::1]:631'), {
    target: { host: '::1', port: 631 },
    hosts: { roles: ['till'] },
  });
  t.match(await json('policy', 'create', 'p', '--from', 'role:till', 'site:harbor', '--to', 'node:till-1', '--services', 'print', '--degraded', 'yes'), {
    from: { roles: ['till'], sites: ['harbor'] },
    to: { nodes: [node] },
    services: ['print'],
    degraded: true,
    priority: 100,
  });
  t.match(await json('policy', 'set', 'p', '--effect', 'deny', '--to', 'any'), { effect: 'deny', to: {}, from: { roles: ['till'] }, degraded: true });
  t.match(await json('route', 'create', 'up', '--from', 'any', '--to', 'tower', '--via', 'till-1'), { to: null, via: [node] });
  t.match(await json('node', 'set', 'till-1', '--roles', 'till', '--tenant', 'port'), { roles: ['till'], tenant: 'port' });
  t.match(await json('policy', 'explain', 'till-1', 'tower', 'render'), { allowed: true, by: 'tower', view: 'tower', channel: { allowed: true } });
  t.match(await selvedge('policy', 'explain', 'till-1', 'tower', 'file_transfer'), {
    status: 0,
    stdout:
      'till-1 to tower, class file_transfer: denied [channel_class_denied]\nbecause role till does not use it\ndecided by role till, as the tower sees it\n',
  });
  t.match(await json('policy', 'explain', 'till-1', 'tower', 'render', '--degraded'), { degraded: true, allowed: true });
  t.match(await selvedge('policy', 'explain', 'till-1', 'nobody', 'render'), { status: 1, stderr: /\[not_found\]/ });
  t.match(await json('node', 'list', '--site', 'harbor'), { nodes: [{ id: node }] });

  t.match(await selvedge('policy', 'list'), {
    status: 0,
    stdout: /^NAME +PRIORITY +EFFECT +FROM +TO +CLASSES +SERVICES +DEGRADED\np +100 +deny +role:till site:harbor +any +any +print +yes\n$/,
  });
  t.match(await selvedge('site', 'show', 'harbor'), { status: 0, stdout: /^name +harbor\n.*\nproofs +token x509\n/s });
  t.match(await selvedge('node', 'show', 'till-1'), {
    status: 0,
    stdout: /^till-1 \([0-9a-f]{12}\) of site harbor: never seen\n {2}roles till; tenant port; there since /,
  });
  t.match(await selvedge('node', 'disable', 'till-1'), { status: 0, stdout: /disabled/ });
  t.match(await selvedge('role', 'delete', 'till'), {
    status: 1,
    stderr: /role till is still used by node [0-9a-f]{12}, policy p, service print.*\[resource_in_use\]/s,
  });
  t.match(await selvedge('policy', 'create', 'q', '--from', 'everyone'), { status: 2, stderr: /argument from: 'everyone' is not any, node:NAME/ });
  t.match(await selvedge('policy', 'create', 'q', '--effect', 'perhaps'), { status: 2, stderr: /\/body\/effect: one of allow, deny/ });
  t.match(await selvedge('role', 'show', 'nobody'), { status: 1, stderr: /`selvedge role list`/ });
  t.match(await selvedge('policy', 'create', 'q', '--priority', '99999'), { status: 2, stderr: /\/body\/priority/ });
  t.match(await selvedge('policy', 'delete', 'p'), { status: 0, stdout: 'policy p is deleted\n' });
  t.match(await selvedge('policy', 'show', 'p'), { status: 1, stderr: /\[not_found\]/ });
  t.match(await selvedge('node', 'revoke', 'till-1'), { status: 0, stdout: /is revoked/ });
  t.match(await selvedge('role', 'create', '--help'), { status: 0, stdout: /selvedge role create till --classes input,render/ });
});
