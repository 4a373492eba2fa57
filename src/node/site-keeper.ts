/**
 * The node's end of the flow of service `site`: opened whenever there is a channel to the tower and none is open, it says what this node has of its site's token and of
 * its boot identity, and takes what the tower sends. A store that is sealed with the site's token is sealed anew with each generation, in the same step that
 * puts the generation into it: at no moment does it need a key that nobody could say.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { BootFile } from '../enroll/boot-file.ts';
import { SiteTokenShelf } from '../enroll/site-shelf.ts';
import { boxPurposes, checkSiteNews, SITE_SERVICE, type SiteNews, type SiteReport } from '../enroll/unseal-wire.ts';
import { bytesOf, readJson } from '../enroll/wire.ts';
import { toBase64 } from '../identity/base64.ts';
import { generateKeyPair, type KeyPair } from '../identity/keys.ts';
import { openBox } from '../identity/sealed-box.ts';
import type { SealedStore } from '../identity/sealed-store.ts';
import type { FlowHandle, Mesh } from '../peering/mesh.ts';
import type { Timers } from '../transport/system.ts';

export interface SiteKeeperOptions {
  readonly mesh: Mesh;
  readonly secrets: SealedStore;
  readonly boot: BootFile;
  readonly timers: Timers;
  /** Under which the boot identity is to be, DER; null: it is all the same. */
  readonly wantedRoot: () => Uint8Array | null;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** After a flow that ended in an error. */
const RETRY_MS = 5_000;
/** Between two looks whether another boot identity is due. */
const LOOK_MS = 6 * 3_600_000;

export class SiteKeeper {
  readonly #options: SiteKeeperOptions;
  readonly #shelf: SiteTokenShelf;
  #flow: FlowHandle | null = null;
  #cancelRetry: (() => void) | null = null;
  #cancelLook: () => void = () => {};
  /** Says again what this node has, and asks for what it lacks, on the flow that is there. */
  #reportAgain: () => void = () => {};
  #isClosed = false;

  constructor(options: SiteKeeperOptions) {
    this.#options = options;
    this.#shelf = new SiteTokenShelf(options.secrets);
  }

  /** Call it whenever channels have changed. */
  poke(): void {
    if (this.#flow !== null || this.#isClosed || this.#cancelRetry !== null) return;
    try {
      const flow = this.#options.mesh.open(TOWER_ID, 'fabric_control', 'messages', SITE_SERVICE);
      this.#flow = flow;
      void this.#follow(flow);
    } catch (error) {
      // Without a channel there is nobody to tell; the next change of channels tries again.
      if (!(error instanceof SelvedgeError)) throw error;
    }
  }

  /** Another boot identity may be wanted. */
  look(): void {
    this.#reportAgain();
  }

  /** For status: how the store is sealed, and what this node could help others with. */
  get facts(): { readonly store_mode: string; readonly site_generation: number } {
    return { store_mode: this.#options.secrets.mode.name, site_generation: this.#shelf.newest };
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#cancelLook();
    this.#flow?.end();
  }

  async #follow(flow: FlowHandle): Promise<void> {
    const { log, timers } = this.#options;
    const keys = generateKeyPair();
    let failure: SelvedgeError | null = null;
    this.#reportAgain = () => void this.#report(flow, keys).catch(() => undefined);
    try {
      await this.#report(flow, keys);
      this.#lookLater();
      for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
        await this.#take(readJson(message, limits.api_body_bytes_max, checkSiteNews), keys);
        await this.#report(flow, keys);
      }
      failure = await flow.closed;
    } catch (error) {
      failure = asSelvedgeError(error, 'internal_error', { what: 'following the site token' });
      flow.reset(failure.code, failure.message);
    }
    keys.privateKey.fill(0);
    this.#cancelLook();
    this.#reportAgain = () => {};
    this.#flow = null;
    if (this.#isClosed) return;
    if (failure) log('site flow ended', { code: failure.code, reason: failure.message });
    this.#cancelRetry = timers.after(RETRY_MS, () => {
      this.#cancelRetry = null;
      this.poke();
    });
  }

  async #report(flow: FlowHandle, { publicKey }: KeyPair): Promise<void> {
    const { secrets, boot, timers, wantedRoot } = this.#options;
    const csr = await boot.request(timers.clock.wall(), wantedRoot());
    const report: SiteReport = {
      have: this.#shelf.newest,
      sealed: secrets.generation,
      boot: boot.fingerprint,
      key: toBase64(publicKey),
      ...(csr !== null && { csr: toBase64(csr) }),
    };
    if (!flow.send(new TextEncoder().encode(JSON.stringify(report)))) await flow.drained();
  }

  async #take({ tokens, boot: chain }: SiteNews, { privateKey }: KeyPair): Promise<void> {
    const { secrets, boot, log } = this.#options;
    const { site, node } = boot.who;
    const before = this.#shelf.newest;
    const opened = tokens.map(({ generation, box }) => ({
      generation,
      token: openBox(privateKey, boxPurposes.siteToken(site, generation), bytesOf(box, limits.api_body_bytes_max, '/tokens')),
    }));
    await this.#shelf.put(opened, node);
    for (const { token } of opened) token.fill(0);
    if (this.#shelf.newest !== before) log('site token taken', { generation: this.#shelf.newest, store_mode: secrets.mode.name, sealed: secrets.generation });
    if (chain === undefined) return;
    const isNew = await boot.take(chain.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/boot/${index}`)));
    if (isNew) log('boot identity taken', { fingerprint: boot.fingerprint });
  }

  #lookLater(): void {
    this.#cancelLook = this.#options.timers.after(LOOK_MS, () => {
      this.#reportAgain();
      this.#lookLater();
    });
  }
}
