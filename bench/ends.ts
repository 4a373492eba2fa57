/** The processes of a measurement, which obey orders (`end.ts`), wherever they run. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Order } from './end.ts';
import type { Pki, SubjectName } from './subject.ts';

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

const HOST = '127.0.0.1';

/** Two of them on loopback, one that accepts and one that dials. */
export async function pair<T>(subject: SubjectName, pki: Pki, work: (acceptor: End, dialer: End) => Promise<T>): Promise<T> {
  const acceptor = new End();
  const dialer = new End();
  try {
    const { port = 0 } = await acceptor.ask({ do: 'accept', subject, pki, host: HOST });
    await dialer.ask({ do: 'dial', subject, pki, host: HOST, port });
    return await work(acceptor, dialer);
  } finally {
    await dialer.close();
    await acceptor.close();
  }
}
