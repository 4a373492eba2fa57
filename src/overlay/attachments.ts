/**
 * The namespaces of this host that users have connected, remembered on disk: after a restart of the daemon the desired state is the same. Addresses are not
 * among what is remembered; the snapshot has them.
 */
import { basename } from 'node:path';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, removeLeftovers, writeFileAtomic } from '../identity/files.ts';
import type { LocalAttachment } from './desired.ts';
import type { Namespace } from './namespaces.ts';

/** A part of the path under which the tower and the tunnel know it. */
const ATTACHMENT_NAME = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$';

export interface Attachment extends LocalAttachment, Namespace {}

const FileSchema = Type.Object(
  {
    format: Type.Literal(1),
    attachments: Type.Array(
      Type.Object(
        {
          network: Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' }),
          name: Type.String({ pattern: ATTACHMENT_NAME }),
          netns: Type.String({ minLength: 1, maxLength: 1_024 }),
          birth: Type.Union([Type.String({ maxLength: 128 }), Type.Null()]),
          interface: Type.String({ minLength: 1, maxLength: 15 }),
        },
        { additionalProperties: false },
      ),
      { maxItems: limits.app_attachments_max },
    ),
  },
  { additionalProperties: false },
);
const fileShape = Compile(FileSchema);

export class Attachments {
  readonly #path: string;
  #list: readonly Attachment[];

  private constructor(path: string, list: readonly Attachment[]) {
    this.#path = path;
    this.#list = list;
  }

  /** @throws store_damaged */
  static async load(path: string): Promise<Attachments> {
    await removeLeftovers(path);
    const bytes = await readFileBounded(path, limits.app_attachments_file_bytes_max);
    if (bytes === null) return new Attachments(path, []);
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder().decode(bytes));
    } catch {
      value = null;
    }
    if (!fileShape.Check(value)) throw new SelvedgeError('store_damaged', { path, why: 'it is no list of attachments' });
    return new Attachments(path, value.attachments);
  }

  get list(): readonly Attachment[] {
    return this.#list;
  }

  find(network: string, name: string): Attachment | undefined {
    return this.#list.find((one) => one.network === network && one.name === name);
  }

  /** In place of one of the same network and name. @throws limit_reached, disk_full */
  async put(attachment: Attachment): Promise<void> {
    const others = this.#list.filter((one) => one.network !== attachment.network || one.name !== attachment.name);
    if (others.length >= limits.app_attachments_max)
      throw new SelvedgeError('limit_reached', { limit: 'app_attachments_max', max: limits.app_attachments_max });
    await this.#save([...others, attachment]);
  }

  /** @throws disk_full */
  async remove(network: string, name: string): Promise<void> {
    await this.#save(this.#list.filter((one) => one.network !== network || one.name !== name));
  }

  async #save(list: readonly Attachment[]): Promise<void> {
    await writeFileAtomic(this.#path, new TextEncoder().encode(`${JSON.stringify({ format: 1, attachments: list })}\n`));
    this.#list = list;
  }
}

/** What an attachment is called unless the user says: after its namespace. */
export function defaultAttachmentName({ netns }: Namespace): string {
  const plain = netns.startsWith('pid:') ? netns.replace(':', '-') : basename(netns);
  const name = plain
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 63);
  return name === '' ? 'namespace' : name;
}
