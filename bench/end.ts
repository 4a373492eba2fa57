/** One of the two processes of a measurement: does what `run.ts` or `grid.ts` asks over the IPC channel, and answers with figures. */
import type { Beside, BesideTimes } from './beside.ts';
import { acceptMesh, dialMesh } from './subject-mesh.ts';
import { acceptTls, dialTls } from './subject-tls.ts';
import type { Acceptor, Dialer, Pki, SubjectName } from './subject.ts';

export type Order =
  | { readonly do: 'accept'; readonly subject: SubjectName; readonly pki: Pki; readonly host: string }
  | { readonly do: 'dial'; readonly subject: SubjectName; readonly pki: Pki; readonly host: string; readonly port: number }
  | { readonly do: 'bulk'; readonly bytes: number }
  | { readonly do: 'echo'; readonly count: number }
  | { readonly do: 'establish'; readonly count: number; readonly atOnce: number }
  | { readonly do: 'hold' }
  | { readonly do: 'beside'; readonly times: BesideTimes }
  | { readonly do: 'arrivals' }
  /** After a collection of garbage; `cpu`: without, which would count. */
  | { readonly do: 'usage' }
  | { readonly do: 'cpu' }
  | { readonly do: 'close' };

export interface Answer {
  readonly port?: number;
  readonly ms?: number;
  readonly times_ms?: readonly number[];
  readonly count?: number;
  readonly beside?: Beside;
  /** Octets in each `ARRIVALS_MS`, from the first one on. */
  readonly arrivals?: readonly number[];
  readonly cpu_ms?: number;
  readonly resident_bytes?: number;
  readonly error?: string;
}

let acceptor: Acceptor | null = null;
let dialer: Dialer | null = null;

function theDialer(): Dialer {
  if (dialer === null) throw new Error('not dialed yet');
  return dialer;
}

async function timed(work: Promise<void>): Promise<Answer> {
  const at = performance.now();
  await work;
  return { ms: performance.now() - at };
}

/** User and system time, all threads. */
function cpuSoFar_ms(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case 'accept':
      acceptor = order.subject === 'tls' ? await acceptTls(order.pki, order.host) : await acceptMesh(order.pki, order.subject, order.host);
      return { port: acceptor.port };
    case 'dial':
      dialer = order.subject === 'tls' ? await dialTls(order.pki, order.host, order.port) : await dialMesh(order.pki, order.subject, order.host, order.port);
      return {};
    case 'bulk':
      return timed(theDialer().bulk(order.bytes));
    case 'echo':
      return { times_ms: await theDialer().echo(order.count) };
    case 'establish':
      return timed(theDialer().establish(order.count, order.atOnce));
    case 'hold':
      return { count: await theDialer().hold() };
    case 'beside': {
      const { beside } = theDialer();
      if (beside === undefined) throw new Error('this subject has no classes');
      return { beside: await beside(order.times) };
    }
    case 'arrivals':
      return { arrivals: acceptor?.arrivals?.() ?? [] };
    case 'usage': {
      globalThis.gc?.();
      return { cpu_ms: cpuSoFar_ms(), resident_bytes: process.memoryUsage.rss() };
    }
    case 'cpu':
      return { cpu_ms: cpuSoFar_ms() };
    case 'close':
      await dialer?.close();
      await acceptor?.close();
      return {};
  }
}

process.on('message', async (order: Order) => {
  const answer = await obey(order).catch((error: unknown): Answer => ({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }));
  process.send?.(answer, () => {
    if (order.do === 'close') process.disconnect();
  });
});
