/** What measurements of channels are made with: processes that obey orders (`end.ts`), and the certificates that they show. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createAuthority, issueChain } from '../src/identity/authority.ts';
import { generateKeyPair } from '../src/identity/keys.ts';
import type { Credentials } from '../src/transport/session.ts';
import { systemRandom } from '../src/transport/system.ts';
import type { Answer, Order } from './end.ts';
import { ACCEPTOR, CLUSTER, type Pki, SITE } from './subject.ts';

const PROGRAM = fileURLToPath(new URL('end.ts', import.meta.url));
const CLOSE_MS_MAX = 5_000;

/** A process of ours that obeys orders, one at a time. */
export class End {
  readonly #child: ChildProcess;

  /** `inside`: the command that runs it elsewhere, such as `ip netns exec NAME`. */
  constructor(inside: readonly string[] = []) {
    const [program = process.execPath, ...args] = [...inside, process.execPath, '--expose-gc', PROGRAM];
    this.#child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async ask(order: Order): Promise<Answer> {
    const answered = once(this.#child, 'message');
    const ended = once(this.#child, 'exit').then(() => {
      throw new Error(`the process ended during '${order.do}'`);
    });
    this.#child.send(order);
    const [answer] = (await Promise.race([answered, ended])) as [Answer];
    if (answer.error !== undefined) throw new Error(`${order.do}: ${answer.error}`);
    return answer;
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    await this.ask({ do: 'close' }).catch(() => this.#child.kill());
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_MS_MAX);
    await ended;
    clearTimeout(timer);
  }
}

export async function makePki(dialers: number): Promise<Pki> {
  const issuing = { now_ms: Date.now(), random: systemRandom };
  const authority = await createAuthority({ cluster: CLUSTER, ...issuing });
  const issue = async (node: string): Promise<Credentials> => {
    const pair = generateKeyPair();
    const chain = await issueChain(authority, { ...issuing, identity: { cluster: CLUSTER, site: SITE, node }, publicKey: pair.publicKey });
    return { chain, key: pair.privateKey };
  };
  const made: Pki['dialers'][number][] = [];
  for (let index = 0; index < dialers; index++) {
    const node = (index + 0x1000).toString(16).padStart(12, '0');
    made.push({ node, credentials: await issue(node) });
  }
  const pki = { root: authority.root, acceptor: await issue(ACCEPTOR), dialers: made };
  await authority.signer.close();
  return pki;
}
