/**
 * The places of this host on its app networks: namespaces that users connect and disconnect, looked after while they live. Their addresses are the tower's to
 * give; that they are made is the tunnel's; this keeps the two in step with what is remembered.
 */
import { SelvedgeError } from '../base/errors.ts';
import type { AppNetwork } from './app-snapshot.ts';
import { type Attachment, type Attachments, defaultAttachmentName } from './attachments.ts';
import { defaultInterfaceName, interfaceObjection } from './names.ts';
import { findNamespace, isThere, type Namespace } from './namespaces.ts';
import type { AttachedAddresses, TowerService } from './tower-service.ts';

export interface ConnectRequest {
  readonly network: string;
  /** A name of `ip netns`, a path, or the number of a process. */
  readonly namespace: string;
  readonly name?: string;
  readonly interface?: string;
}

export interface Connected extends AttachedAddresses {
  readonly network: string;
  readonly name: string;
  readonly interface: string;
}

export interface PlacesOptions {
  readonly node: string;
  readonly attachments: Attachments;
  readonly tower: Pick<TowerService, 'attach' | 'detach'>;
  /** The networks that this node is a member of now. */
  readonly networks: () => readonly AppNetwork[];
  /** What is wanted has changed. */
  readonly onChange: () => void;
  /** Resolves once the tunnel has made it. @throws why it could not, timeout */
  readonly untilMade: (attachment: Attachment) => Promise<void>;
  /** What failed beside what was asked for. */
  readonly onFailure: (what: string, error: unknown) => void;
}

export class Places {
  readonly #options: PlacesOptions;
  /** Those whose namespace is away. */
  #away: ReadonlySet<string> = new Set();
  /** Those for which an address is being asked. */
  readonly #asked = new Set<string>();

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  get all(): readonly Attachment[] {
    return this.#options.attachments.list;
  }

  /** Those whose namespace is there. */
  get present(): readonly Attachment[] {
    return this.all.filter((one) => !this.#away.has(idOf(one)));
  }

  /** The others, as `network/name`. */
  get away(): readonly string[] {
    return [...this.#away];
  }

  /** Looks at the namespaces. True: one went, or came back. */
  async look(): Promise<boolean> {
    const gone = await Promise.all(this.all.map(async (one) => ((await isThere(one)) ? [] : [idOf(one)])));
    const away = new Set(gone.flat());
    const isSame = away.size === this.#away.size && [...away].every((one) => this.#away.has(one));
    this.#away = away;
    return !isSame;
  }

  /** What is remembered here and unknown to the tower (the node was taken out of the network and put in again) is asked for anew; the next snapshot has it. */
  askForAddresses(): void {
    const { tower, onFailure } = this.#options;
    for (const { network, name } of this.all) {
      const id = idOf({ network, name });
      const found = this.#network(network);
      if (found === undefined || this.#asked.has(id) || this.#isKnown(found, name)) continue;
      this.#asked.add(id);
      tower
        .attach(network, name)
        .catch((error: unknown) => onFailure(`asking for an address of ${id}`, error))
        .finally(() => this.#asked.delete(id));
    }
  }

  /** A namespace becomes a place on a network; resolves when it is one. @throws not_member, namespace_missing, argument_invalid, not_connected, timeout, what tower or tunnel say */
  async connect(request: ConnectRequest): Promise<Connected> {
    const { attachments, tower, onChange, untilMade, onFailure } = this.#options;
    const { network } = request;
    if (this.#network(network) === undefined) throw new SelvedgeError('not_member', { network });
    const found = await findNamespace(request.namespace);
    const name = request.name ?? defaultAttachmentName(found);
    const interfaceName = request.interface ?? defaultInterfaceName(network);
    const objection = interfaceObjection(interfaceName);
    if (objection !== null) throw new SelvedgeError('argument_invalid', { name: 'interface', why: objection });
    const known = attachments.find(network, name);
    this.#refuseAnother(known, found);
    const addresses = await tower.attach(network, name);
    const attachment: Attachment = { network, name, interface: interfaceName, ...found };
    try {
      await attachments.put(attachment);
      await this.look();
      onChange();
      await untilMade(attachment);
    } catch (error) {
      if (known === undefined) await this.disconnect(network, name).catch((undoing: unknown) => onFailure('undoing a connect', undoing));
      throw error;
    }
    return { network, name, interface: interfaceName, ...addresses };
  }

  /** One name has one namespace, unless that is gone. */
  #refuseAnother(known: Attachment | undefined, found: Namespace): void {
    if (known === undefined || (known.netns === found.netns && known.birth === found.birth) || this.#away.has(idOf(known))) return;
    throw new SelvedgeError('argument_invalid', {
      name: 'name',
      why: `${idOf(known)} is another namespace (${known.netns}); disconnect it, or give another --name`,
    });
  }

  /** @throws not_found, disk_full, not_connected */
  async disconnect(network: string, name: string): Promise<void> {
    const { attachments, tower, onChange } = this.#options;
    const found = this.#network(network);
    const isKnown = attachments.find(network, name) !== undefined || (found !== undefined && this.#isKnown(found, name));
    if (!isKnown) throw new SelvedgeError('not_found', { what: 'attachment', name: idOf({ network, name }) });
    await attachments.remove(network, name);
    onChange();
    await tower.detach(network, name);
  }

  #network(name: string): AppNetwork | undefined {
    return this.#options.networks().find((one) => one.name === name);
  }

  /** Whether the tower has given it an address. */
  #isKnown({ endpoints }: AppNetwork, name: string): boolean {
    return endpoints.some(({ node, attachment }) => node === this.#options.node && attachment === name);
  }
}

function idOf({ network, name }: Pick<Attachment, 'network' | 'name'>): string {
  return `${network}/${name}`;
}
