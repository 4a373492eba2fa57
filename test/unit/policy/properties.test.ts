/** What holds of the authorization decision whatever the rules: order does not matter, denying only takes away, and both ends agree by what each of them is told. */
import fc from 'fast-check';
import t from 'tap';
import { authorize, type Decision, type End } from '../../../src/policy/authorize.ts';
import { peersOf } from '../../../src/policy/directory.ts';
import { noRules, type Rules } from '../../../src/policy/rules.ts';
import { type RuleSet, rulesPart } from '../../../src/tower/rules-snapshot.ts';
import { allFlows, channelOf, classes, cluster, pairs, policies, rule, selector } from './clusters.ts';

const RUNS = { numRuns: 100 };

t.test('the order of documents and of a node’s roles does not matter, also not for which document is named', async () => {
  const shuffled = <Item>(items: readonly Item[]) => fc.shuffledSubarray([...items], { minLength: items.length });
  const reordered = ({ roles, policies: some, routes, services }: RuleSet) =>
    fc.record({ roles: shuffled(roles), policies: shuffled(some), routes: shuffled(routes), services: shuffled(services) });
  const both = cluster.chain((one) => fc.tuple(fc.constant(one), reordered(one.rules)));
  fc.assert(
    fc.property(both, ([{ nodes, rules }, other]) => {
      const [from, to] = nodes as [End, End];
      const turned = { ...from, roles: [...from.roles].reverse() };
      for (const request of [channelOf(from, to), ...allFlows(from, to)])
        if (!same(authorize(request, rules), authorize({ ...request, from: turned }, other))) return false;
      return true;
    }),
    RUNS,
  );
});

t.test('one more policy that denies, or one more cap of a role, allows nothing that was denied', async () => {
  fc.assert(
    fc.property(cluster, selector, selector, fc.nat({ max: 3 }), ({ nodes, rules }, from, to, priority) => {
      const denying: RuleSet = { ...rules, policies: [...rules.policies, rule('policy', 'more', { effect: 'deny', from, to, priority })] };
      const capping: RuleSet = {
        ...rules,
        roles: [...rules.roles.filter(({ name }) => name !== 'a'), rule('role', 'a', { peers: ['b'], classes: ['health'] })],
      };
      const uncapped: RuleSet = { ...rules, roles: [...rules.roles.filter(({ name }) => name !== 'a'), rule('role', 'a', {})] };
      return everyRequest(
        nodes,
        (request) =>
          (authorize(request, rules).allowed || !authorize(request, denying).allowed) &&
          (authorize(request, uncapped).allowed || !authorize(request, capping).allowed),
      );
    }),
    RUNS,
  );
});

t.test('one more policy that allows, above all others, denies nothing that was allowed; and the tower’s absence allows nothing', async () => {
  fc.assert(
    fc.property(cluster, selector, selector, ({ nodes, rules }, from, to) => {
      const more: RuleSet = { ...rules, policies: [...rules.policies, rule('policy', 'more', { from, to, priority: 9 })] };
      return everyRequest(
        nodes,
        (request) =>
          (!authorize(request, rules).allowed || authorize(request, more).allowed) &&
          (authorize(request, rules).allowed || !authorize({ ...request, degraded: true }, rules).allowed),
      );
    }),
    RUNS,
  );
});

t.test('at equal priority deny wins', async () => {
  fc.assert(
    fc.property(cluster, policies, ({ nodes, rules }, some) => {
      const level: RuleSet = { ...rules, policies: some.map((policy) => ({ ...policy, priority: 1 })) };
      const [from, to] = nodes as [End, End];
      for (const request of allFlows(from, to)) {
        const denying = { ...level, policies: level.policies.filter(({ effect }) => effect === 'deny') };
        const { by, allowed } = authorize(request, denying);
        if (by === 'policy' && !allowed && authorize(request, level).allowed) return false;
      }
      return true;
    }),
    RUNS,
  );
});

t.test('each end decides by what it is told as the tower does by all there is, and is told of exactly those with whom it may have a channel', async () => {
  fc.assert(
    fc.property(cluster, ({ nodes, rules }) => {
      const views = new Map(nodes.map((self) => [self.id, viewOf(self, nodes, rules)]));
      return pairs(nodes).every(([from, to]) => {
        const mayTalk = authorize(channelOf(from, to), rules).allowed;
        const [ours, theirs] = [views.get(from.id), views.get(to.id)];
        if (ours?.peers.includes(to) !== mayTalk || theirs?.peers.includes(from) !== mayTalk) return false;
        if (!mayTalk) return true;
        return [channelOf(from, to), ...allFlows(from, to), ...allFlows(from, to, true)].every((request) => {
          const whole = authorize(request, rules);
          return [ours, theirs].every((view) => {
            const scoped = authorize(request, view.rules);
            return scoped.allowed === whole.allowed && scoped.code === whole.code;
          });
        });
      });
    }),
    RUNS,
  );
});

function viewOf(self: End, nodes: readonly End[], rules: RuleSet): { peers: readonly End[]; rules: Rules } {
  const peers = peersOf({ self, others: nodes.filter((node) => node !== self), rules, classes });
  return { peers, rules: rulesPart(self, peers, rules) ?? noRules };
}

function everyRequest(nodes: readonly End[], holds: (request: Parameters<typeof authorize>[0]) => boolean): boolean {
  const [from, to] = nodes as [End, End];
  return [channelOf(from, to), ...allFlows(from, to)].every(holds);
}

function same(one: Decision, other: Decision): boolean {
  return one.allowed === other.allowed && one.code === other.code && one.by === other.by && one.name === other.name;
}
