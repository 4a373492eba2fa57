/** `selvedge doctor` on the hosts of a small cluster: with their daemons, without, and with what is then amiss. */
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer } from 'node:net';
import t from 'tap';
import type { Finding } from '../../src/node/doctor/finding.ts';
import { freshDirectory } from '../compliance/store.ts';
import { smallCluster, told } from './small-cluster.ts';

t.setTimeout(240_000);

const EXPECTED = ['state', 'daemon', 'clock', 'reach tcp', 'reach udp', 'permissions', 'disk', 'store', 'unseal', 'versions', 'node'];

function byName(json: Record<string, unknown>): Map<string, Finding> {
  return new Map((json.findings as Finding[]).map((finding) => [finding.check, finding]));
}

t.test('a healthy cluster has no fault; what is amiss is told, with what to do, and the exit code is 1', async (t) => {
  const directory = freshDirectory(t);
  const { at, key, port, tower, runNode } = await smallCluster(t, directory, { cwd: directory });
  const node = await runNode();
  const doctor = (name: string) => told('doctor', '--state', at(name), ...key);

  const [ofNode, ofTower] = await Promise.all([doctor('node'), doctor('tower')]);
  for (const [role, { code, json }] of [['node', ofNode] as const, ['tower', ofTower] as const]) {
    t.match({ code, role: json.role, faults: json.faults }, { code: 0, role, faults: 0 }, JSON.stringify(json));
    const found = byName(json);
    for (const check of EXPECTED) t.equal(found.get(check)?.verdict, check === 'disk' ? found.get(check)?.verdict : 'ok', `${role}: ${check}`);
  }
  const [onNode, onTower] = [byName(ofNode.json), byName(ofTower.json)];
  t.match(onNode.get('daemon')?.found, `process ${node.pid}`);
  t.match(onNode.get('versions')?.found, /^selvedge (\S+), daemon \1, selvedge-tunnel \1, tower \1$/);
  t.match(onNode.get('certificate node/leaf')?.found, /^(29|30) days left/);
  t.match(onNode.get('port')?.found, /listens nowhere/);
  t.match(onTower.get('port tcp'), { verdict: 'ok', found: `TCP port ${port} of 127.0.0.1 is held by the daemon (process ${tower.pid})` });
  t.match(onTower.get('port udp'), { verdict: 'ok', found: /held by the daemon/ });

  const ended = once(tower, 'exit');
  tower.kill('SIGKILL');
  await ended;
  const squatter = createServer().listen(port, '127.0.0.1');
  await once(squatter, 'listening');
  t.teardown(() => squatter.close());
  await chmod(at('tower/sealed.bin'), 0o644);
  const [alone, without] = await Promise.all([doctor('node'), told('doctor', '--state', at('tower'), ...key, '--listen', '127.0.0.1', '--port', String(port))]);
  t.match({ alone: alone.code, without: without.code }, { alone: 1, without: 1 });
  t.match(byName(alone.json).get('reach tcp'), { verdict: 'fault', remedy: String });
  t.match(byName(alone.json).get('unseal'), { verdict: 'ok' }, 'what does not need the tower is looked at all the same');
  const amiss = byName(without.json);
  t.match(amiss.get('daemon'), { verdict: 'warning', found: /does not run/ });
  t.match(amiss.get('port tcp'), { verdict: 'fault', found: new RegExp(`is held by .* \\(process ${process.pid}\\)`) });
  t.match(amiss.get('port udp'), { verdict: 'ok', found: /is free/ });
  t.match(amiss.get('permissions'), { verdict: 'fault', found: /sealed\.bin has mode 0644/ });
});
