/**
 * What the tower decides by (policy/judge.ts): of its own channels, by all nodes and rules there are. The rows of nodes are those of the directory in memory; rules are
 * read anew when something has changed.
 */
import { SelvedgeError } from '../base/errors.ts';
import { TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { trafficClassNames } from '../channel/classes.ts';
import { authorize, type End } from '../policy/authorize.ts';
import { type Asked, type Explanation, explain } from '../policy/explain.ts';
import { endOf, Judge, type View } from '../policy/judge.ts';
import type { Rules } from '../policy/rules.ts';
import { CARRY_CLASS, CARRY_SERVICE } from '../transport/carry/greeting.ts';
import { endOfRow } from './recorded.ts';
import type { Tower } from './tower.ts';

type Named = End & { readonly name: string };

export class TowerPolicy {
  readonly judge: Judge;
  readonly #tower: Tower;
  #rules: Rules;

  private constructor(tower: Tower, rules: Rules) {
    this.#tower = tower;
    this.#rules = rules;
    this.judge = new Judge(trafficClassNames, this.#view);
  }

  static async open(tower: Tower): Promise<TowerPolicy> {
    return new TowerPolicy(tower, await tower.rules());
  }

  /** Nodes have changed, in the directory. */
  nodesChanged(): void {
    this.judge.follow(this.#view);
  }

  /** Anything may have. */
  async refresh(): Promise<void> {
    this.#rules = await this.#tower.rules();
    this.nodesChanged();
  }

  /** Of two nodes by id or name, or the tower. @throws not_found */
  async explain(from: string, to: string, asked: Asked): Promise<Explanation & Asked & { from: Named; to: Named; view: 'tower' }> {
    const ends = [await this.#endNamed(from), await this.#endNamed(to)] as const;
    if (ends[0].id === ends[1].id) throw new SelvedgeError('request_invalid', { path: '/querystring', why: 'a flow has two ends' });
    return { from: ends[0], to: ends[1], ...asked, ...explain(...ends, asked, await this.#tower.rules(), trafficClassNames), view: 'tower' };
  }

  /**
   * Whether packets of one member of an app network may be passed on to another, which has no channel with it. That both are members permits it, at whatever sites they are;
   * what a policy or a role denies to class `vpn_packet` is denied here as well. @throws channel_class_denied, not_found
   */
  async checkCarried(from: string, to: string): Promise<void> {
    const flow = { class: CARRY_CLASS, service: CARRY_SERVICE };
    const ends = { from: await this.#endNamed(from), to: await this.#endNamed(to) };
    const { allowed, by, reason } = authorize({ ...ends, flow, classes: trafficClassNames, degraded: false }, this.#rules);
    if (!allowed && by !== 'default') throw new SelvedgeError('channel_class_denied', { class: flow.class, peer: to, why: reason });
  }

  get #view(): View {
    const { cluster } = this.#tower;
    const self = endOf({ cluster, site: TOWER_SITE, node: TOWER_ID });
    // What a node that is behind may still do, it does at its peers: here it comes to catch up.
    return { self, peer: (identity) => this.#tower.endOf(identity), epochOf: () => 0, rules: this.#rules, degraded: false };
  }

  async #endNamed(name: string): Promise<Named> {
    const { cluster } = this.#tower;
    if (name === TOWER_ID) return { ...endOf({ cluster, site: TOWER_SITE, node: TOWER_ID }), name };
    const row = await this.#tower.findNode(name);
    return { ...endOfRow(cluster, row), name: row.name };
  }
}
