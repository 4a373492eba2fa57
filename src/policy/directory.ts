/** Of many nodes, those with which one may have a channel (spec 6.3): all that it is told of. Nodes that no rule can tell apart are judged once. Pure. */
import { authorize } from './authorize.ts';
import { type Member, type Rules, type Selector, selects } from './rules.ts';

export interface DirectoryInput<Node extends Member> {
  readonly self: Member;
  readonly others: readonly Node[];
  readonly rules: Rules;
  readonly classes: readonly string[];
}

export function peersOf<Node extends Member>({ self, others, rules: all, classes }: DirectoryInput<Node>): Node[] {
  const rules = concerning(self, all);
  const named = nodesNamed(rules);
  const alike = new Map<string, boolean>();
  const mayKnow = (other: Member): boolean =>
    authorize({ from: { cluster: '', ...self }, to: { cluster: '', ...other }, flow: null, classes, degraded: false }, rules).allowed;
  return others.filter((other) => {
    if (named.has(other.id)) return mayKnow(other);
    const key = `${other.site}/${other.tenant ?? ''}/${other.roles.join(' ')}`;
    const known = alike.get(key) ?? mayKnow(other);
    alike.set(key, known);
    return known;
  });
}

/** What can decide about this node: it is an end of it. */
export function concerning(self: Member, { roles, policies, routes, services }: Rules): Rules {
  return {
    roles,
    policies: policies.filter(({ from, to }) => selects(from, self) || selects(to, self)),
    routes: routes.filter(({ from, via }) => selects(from, self) || via.includes(self.id)),
    services,
  };
}

/** Where, beside its own site, rules may let a node talk to somebody: cheap, and never too little. */
export interface Reach {
  readonly isEverywhere: boolean;
  readonly sites: ReadonlySet<string>;
  readonly nodes: ReadonlySet<string>;
}

export function reachOf(self: Member, { policies, routes }: Rules): Reach {
  const ends = [
    ...policies
      .filter(({ effect }) => effect === 'allow')
      .flatMap(({ from, to }) => [...(selects(from, self) ? [to] : []), ...(selects(to, self) ? [from] : [])]),
    ...routes.flatMap(({ from, via }) => [...(selects(from, self) ? [{ nodes: via }] : []), ...(via.includes(self.id) ? [from] : [])]),
  ];
  return {
    isEverywhere: ends.some(({ sites, nodes }) => sites === undefined && nodes === undefined),
    sites: new Set(ends.flatMap(({ sites }) => sites ?? [])),
    nodes: new Set(ends.flatMap(({ sites, nodes }) => (sites === undefined ? (nodes ?? []) : []))),
  };
}

/** Whoever is named by its id may be treated otherwise than those who are like it. */
function nodesNamed({ policies, routes, services }: Rules): Set<string> {
  const selectors: readonly Selector[] = [
    ...policies.flatMap(({ from, to }) => [from, to]),
    ...routes.map(({ from }) => from),
    ...services.flatMap(({ hosts }) => hosts ?? []),
  ];
  return new Set([...selectors.flatMap(({ nodes }) => nodes ?? []), ...routes.flatMap(({ via }) => via)]);
}
