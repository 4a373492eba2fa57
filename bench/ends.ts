/** The two processes of a measurement, as those who measure see them, and the certificates of both. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createAuthority, issueChain } from '../src/identity/authority.ts';
import { generateKeyPair } from '../src/identity/keys.ts';
import type { Credentials } from '../src/transport/session.ts';
import { systemRandom } from '../src/transport/system.ts';
import type { Answer, Order } from './end.ts';
import { ACCEPTOR, CLUSTER, type Pki, SITE, type SubjectName } from './subject.ts';

/** A process of ours that obeys orders, one at a time. */
export class End {
  readonly #child: ChildProcess = fork(fileURLToPath(new URL('end.ts', import.meta.url)), [], { serialization: 'advanced', execArgv: ['--expose-gc'] });

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
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
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

export async function pair<T>(subject: SubjectName, pki: Pki, work: (acceptor: End, dialer: End) => Promise<T>): Promise<T> {
  const acceptor = new End();
  const dialer = new End();
  try {
    const { port = 0 } = await acceptor.ask({ do: 'accept', subject, pki });
    await dialer.ask({ do: 'dial', subject, pki, port });
    return await work(acceptor, dialer);
  } finally {
    await dialer.close();
    await acceptor.close();
  }
}

/** User and system time of all of them so far, all threads. */
export async function cpu_ms(...ends: readonly End[]): Promise<number> {
  const usages = await Promise.all(ends.map((end) => end.ask({ do: 'usage' })));
  return usages.reduce((sum, usage) => sum + (usage.cpu_ms ?? 0), 0);
}
