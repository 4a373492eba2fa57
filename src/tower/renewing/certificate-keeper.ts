/** Looks once an hour after the tower's certificates: renews its leaf and its intermediate when they are due, and warns of what nears its end and is not renewed. */
import { asSelvedgeError } from '../../base/errors.ts';
import { type CertificateFacts, certificateFacts, ExpiryWatch, type Watched, warningText } from '../../identity/expiry.ts';
import { fingerprint, formatFingerprint } from '../../identity/fingerprint.ts';
import { lifetimeOf, renewAt_ms } from '../../identity/lifetime.ts';
import type { Timers } from '../../transport/system.ts';
import type { Tower } from '../tower.ts';

export interface KeeperOptions {
  readonly tower: Tower;
  readonly timers: Timers;
  /** Other certificates to look after: those of files. */
  readonly others?: () => readonly Watched[];
  /** The tower's leaf is another now. */
  readonly onRenewed: () => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** As a node answers the same request. */
export interface OwnRenewed {
  readonly before: string;
  readonly now: string;
  readonly not_after_ms: number;
  readonly channels_moved: number;
  readonly channels: number;
}

const LOOK_MS = 3_600_000;

export class CertificateKeeper {
  readonly #options: KeeperOptions;
  readonly #watch = new ExpiryWatch();
  #cancel: () => void = () => {};
  #isClosed = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** The first look is now. */
  start(): void {
    void this.look();
  }

  get certificates(): CertificateFacts[] {
    const { tower, timers, others } = this.#options;
    const now_ms = timers.clock.wall();
    const renewed = (name: string, der: Uint8Array): Watched => ({ name, der, renews_ms: renewAt_ms(lifetimeOf(der), 0.5) });
    const own = [
      renewed("the tower's certificate", tower.credentials.chain[0] ?? new Uint8Array()),
      renewed('the intermediate', tower.own.intermediate),
      { name: 'the root', der: tower.own.root, renews_ms: null },
    ];
    return [...own, ...(others?.() ?? [])].map((one) => certificateFacts(one, now_ms));
  }

  /** For status: what nears its end, or null. */
  get warning(): string | null {
    const near = this.certificates.filter(({ warning_days }) => warning_days !== null);
    return near.length === 0 ? null : near.map(warningText).join('; ');
  }

  /** Renews the tower's leaf now. @throws signer_unavailable, disk_full */
  async renewNow(): Promise<OwnRenewed> {
    const { tower, onRenewed } = this.#options;
    const before = fingerprint(tower.credentials.chain[0] ?? new Uint8Array());
    await tower.renewLeaf();
    onRenewed();
    const leaf = tower.credentials.chain[0] ?? new Uint8Array();
    const [was, now] = [before, fingerprint(leaf)].map(formatFingerprint);
    // Who dialed the tower moves over by itself, without haste.
    return { before: was ?? '', now: now ?? '', not_after_ms: lifetimeOf(leaf).notAfter_ms, channels_moved: 0, channels: 0 };
  }

  async look(): Promise<void> {
    const { tower, timers, log, onRenewed } = this.#options;
    this.#cancel();
    try {
      if (tower.own.dueIntermediate) {
        await tower.renewIntermediate();
        log('intermediate renewed', { not_after_ms: lifetimeOf(tower.own.intermediate).notAfter_ms });
        onRenewed();
      } else if (tower.own.dueLeaf) {
        await this.renewNow();
        log('certificate renewed', { not_after_ms: lifetimeOf(tower.credentials.chain[0]).notAfter_ms });
      }
    } catch (error) {
      const { code, message } = asSelvedgeError(error, 'internal_error', { what: "renewing the tower's certificates" });
      log('certificate not renewed', { code, reason: message });
    }
    for (const facts of this.#watch.look(this.certificates))
      log('certificate nears its end', { certificate: facts.name, days: facts.days, not_after_ms: facts.not_after_ms, text: warningText(facts) });
    if (!this.#isClosed) this.#cancel = timers.after(LOOK_MS, () => void this.look());
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }
}
