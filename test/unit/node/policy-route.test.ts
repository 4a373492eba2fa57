/** What a node answers when it is asked why: by its own snapshot, of its own flows. */
import t from 'tap';
import type { Snapshot } from '../../../src/enroll/wire.ts';
import { nodeExplainer } from '../../../src/node/policy-route.ts';
import { buildSnapshot } from '../../../src/tower/snapshot.ts';
import type { NodeRow } from '../../../src/tower/store/store.ts';
import { noRuleSet, rule } from '../policy/clusters.ts';

const hex = 'ab'.repeat(32);
const row = (id: string, name: string, more: Partial<NodeRow> = {}): NodeRow => ({
  id,
  name,
  site: 'harbor',
  fingerprint: hex,
  leaf: null,
  csrHash: hex,
  spkiHash: hex,
  renewal: null,
  endpoints: [],
  disabled: false,
  leaving_ms: null,
  created_ms: 0,
  seen_ms: null,
  tenant: null,
  roles: [],
  revision: 1,
  ...more,
});
const till = row('00000000000a', 'till-1', { roles: ['till'] });
const printer = row('00000000000b', 'printer');
const lost = row('00000000000c', 'lost', { fingerprint: null });
const hidden = row('00000000000d', 'hidden', { tenant: 'other' });

function snapshotOf(node: NodeRow): Snapshot {
  const rules = {
    ...noRuleSet,
    policies: [
      rule('policy', 'no-input', { effect: 'deny', classes: ['input'], to: { nodes: [printer.id] } }),
      rule('policy', 'apart', { effect: 'deny', from: { nodes: [hidden.id] } }),
      rule('policy', 'too', { effect: 'deny', to: { nodes: [hidden.id] } }),
    ],
  };
  const tower = { fingerprint: hex, endpoints: [] };
  const nodes = [till, printer, lost, hidden];
  const trust = { version: 1, roots: ['AAAA'] };
  return buildSnapshot({ version: 1, issued_ms: 0, cluster: 'c', node, tower, nodes, boots: new Map(), trust, app: null, rules });
}

const ask = (from: string, to: string, cls = 'input', service: string | null = null) =>
  nodeExplainer(() => snapshotOf(till))(from, to, { class: cls, service, degraded: false });

t.test('a node tells which policy decided, in both directions', async (t) => {
  t.match(await ask('till-1', 'printer'), {
    allowed: false,
    code: 'channel_class_denied',
    by: 'policy',
    name: 'no-input',
    reason: 'policy no-input (priority 100) denies it',
    view: 'node',
    from: { id: till.id, name: 'till-1' },
    channel: { allowed: true },
  });
  t.match(await ask('printer', till.id), { allowed: true, by: 'default' });
  t.match(await ask('till-1', 'tower', 'health'), { allowed: true, by: 'tower' });
  t.match(await ask('till-1', 'printer', 'render', 'print'), { allowed: false, code: 'policy_denied' });
});

t.test('it knows which of its peers are revoked, and answers the same of one that it may not talk to and one that is not there', async (t) => {
  t.match(await ask('till-1', lost.id), { allowed: false, code: 'certificate_revoked' });
  const of = (name: string) =>
    ask('till-1', name).then(
      () => 'told',
      (error: { code: string; facts: object }) => `${error.code} ${JSON.stringify({ ...error.facts, name: '' })}`,
    );
  t.equal(await of('nobody'), await of('hidden'));
  t.equal(await of('0000000000ff'), await of(hidden.id));
  await t.rejects(ask('printer', 'tower'), { code: 'request_invalid' });
});
