/**
 * `selvedge netcheck`: does TCP pass to the tower, does UDP, how far apart are the clocks; and if not, why. It needs no identity: it shows
 * a certificate of its own making, which lets handshakes finish and nothing more, and says goodbye.
 */
import { request } from 'node:https';
import { once } from 'node:events';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { asSelvedgeError, SelvedgeError } from '../../src/base/errors.ts';
import { readIdentity } from '../../src/enroll/state.ts';
import { selfSigned } from '../../src/identity/self-signed.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import type { Credentials, Transport } from '../../src/transport/session.ts';
import { systemClock, systemRandom } from '../../src/transport/system.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { address, DEFAULT_NODE_STATE, duration } from './arguments.ts';
import { exitCodes, formatMs, printJson, printLine } from './output.ts';

interface Flags {
  readonly tower?: string;
  readonly state: string;
  readonly wait?: number;
  readonly json?: boolean;
}

interface Target {
  readonly host: string;
  readonly tcp: number;
  readonly udp: number | null;
}

interface Check {
  readonly passes: boolean;
  /** Time to the end of the handshake. */
  readonly ms: number | null;
  readonly code: string | null;
  readonly why: string | null;
}

const WAIT_MS = 3_000;

export function netcheckCommand(): Command {
  return new Command('netcheck')
    .description('does UDP (QUIC), does TCP pass to the tower, and do the clocks agree')
    .option('--tower <address>', 'HOST or HOST:PORT (default: where this node joined)')
    .option('--state <dir>', 'state directory of the node', DEFAULT_NODE_STATE)
    .option('--wait <time>', 'how long to wait for each answer (default: 3s)', duration('wait'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge netcheck --tower 203.0.113.5')
    .action(netcheck);
}

async function netcheck(flags: Flags): Promise<void> {
  const target = await findTarget(flags);
  const wait_ms = flags.wait ?? WAIT_MS;
  const credentials = await selfSigned('netcheck', { now_ms: systemClock.wall(), random: systemRandom });
  await using quic = new ClosingQuic();
  const skipped: Check = { passes: false, ms: null, code: 'unsupported', why: 'the tower does not offer it' };
  const [udp, tcp, clock] = await Promise.all([
    target.udp === null ? skipped : dial(quic.transport, { host: target.host, port: target.udp }, credentials, wait_ms),
    dial(new TcpTransport(), { host: target.host, port: target.tcp }, credentials, wait_ms),
    clockDifference(target, wait_ms),
  ]);
  const uses = udp.passes ? 'quic' : tcp.passes ? 'tcp' : null;
  if (flags.json) printJson({ tower: target, quic: udp, tcp, clock_difference_s: clock, uses });
  else {
    printLine(`tower ${target.host}, TCP ${target.tcp}, UDP ${target.udp ?? 'none'}`);
    printLine(`  QUIC over UDP  ${describe(udp)}`);
    printLine(`  TLS over TCP   ${describe(tcp)}`);
    printLine(
      `  clock          ${clock === null ? 'unknown: the tower did not answer over HTTPS' : Math.abs(clock) <= 1 ? 'the same, to a second' : `${Math.abs(clock)} s ${clock > 0 ? 'behind' : 'ahead of'} the tower's`}`,
    );
    printLine(
      uses === null ? 'a node here cannot reach the tower' : `a node here will use ${uses}${uses === 'tcp' ? ', and move to QUIC when UDP passes' : ''}`,
    );
  }
  if (uses === null) process.exitCode = exitCodes.failed;
}

async function findTarget({ tower, state }: Flags): Promise<Target> {
  if (tower !== undefined) {
    const { host, port } = address(tower);
    return { host, tcp: port, udp: port };
  }
  const identity = await readIdentity(resolve(state));
  if (identity === null) throw new SelvedgeError('not_enrolled', { path: state });
  return identity.tower;
}

/** A session that is never approved carries nothing; that it came about is the answer. */
async function dial(transport: Transport, target: { host: string; port: number }, credentials: Credentials, wait_ms: number): Promise<Check> {
  const started = systemClock.now();
  try {
    const session = await transport.dial(target, credentials, AbortSignal.timeout(wait_ms));
    const ms = systemClock.now() - started;
    session.close('shutting_down', 'netcheck');
    return { passes: true, ms, code: null, why: null };
  } catch (error) {
    const { code, message } = asSelvedgeError(error, 'network_unreachable', { peer: target.host });
    return { passes: false, ms: null, code, why: systemClock.now() - started >= wait_ms ? `no answer within ${wait_ms} ms` : message };
  }
}

/** Whole seconds, from the Date of an answer whose sender nobody has verified: good for a hint, not for a decision. */
async function clockDifference({ host, tcp }: Target, wait_ms: number): Promise<number | null> {
  const outgoing = request({
    host,
    port: tcp,
    path: '/v1/health',
    rejectUnauthorized: false,
    agent: false,
    timeout: wait_ms,
    ...(isIP(host) === 0 && { servername: host }),
  });
  outgoing.end();
  try {
    const [response] = await once(outgoing, 'response', { signal: AbortSignal.timeout(wait_ms) });
    const theirs_ms = Date.parse(response.headers.date ?? '');
    return Number.isNaN(theirs_ms) ? null : Math.round((theirs_ms - systemClock.wall()) / 1_000);
  } catch {
    return null;
  } finally {
    outgoing.on('error', () => undefined).destroy();
  }
}

function describe({ passes, ms, why, code }: Check): string {
  return passes ? `passes, handshake in ${formatMs(ms)}` : `does not pass: ${why} [${code}]`;
}

/** Owns the QUIC endpoint of one check. */
class ClosingQuic implements AsyncDisposable {
  readonly transport = new QuicTransport();

  [Symbol.asyncDispose](): Promise<void> {
    return this.transport.close();
  }
}
