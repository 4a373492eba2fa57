/** The two processes of a measurement, as those who measure see them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Answer, Order } from './end.ts';
import type { Pki, SubjectName } from './subject.ts';

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
