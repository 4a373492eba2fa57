/** Each timeout of a channel, twice: one tick before its time it lives, one tick after it has failed, with its reason. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { Liveness } from '../../../src/channel/liveness.ts';
import { Dialer } from '../../../src/transport/dialer.ts';
import type { TransportName } from '../../../src/transport/session.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { Pair } from '../channel/pair.ts';
import { A, Hosts } from './hosts.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

type Limit = keyof typeof limits;

/** What a channel, or the way to one, came to; null: it lives. */
interface Trial {
  /** Lets so much time pass since the timeout began to run. */
  pass(ms: number): Promise<void> | void;
  outcome(): string | null;
}

interface Row {
  readonly ms: number;
  readonly reason: string;
  /** Between the deadline and what is seen of it: a message's way, a look. */
  readonly slack_ms?: number;
  readonly begin: () => Promise<Trial> | Trial;
}

/** Its jitter is always the middle. */
const even = { bytes: (length: number) => new Uint8Array(length), unit: () => 0.5 };

/** A liveness that asked at 0; `heardEvery_ms`: the transport shows life, though nobody echoes. */
function silent(heardEvery_ms: number | null, until: 'suspect' | 'dead', inFlow = false): Trial {
  const liveness = new Liveness(even, 0, inFlow);
  liveness.handleTimeout(0);
  const sequence = liveness.heartbeatSent(0);
  if (inFlow) {
    liveness.echo(sequence, 1);
    liveness.outstanding(0, true, true);
  }
  let now = 0;
  let reached: string | null = null;
  return {
    pass(ms) {
      for (const end = now + ms; now < end; ) {
        now++;
        if (heardEvery_ms !== null && now % heardEvery_ms === 0) liveness.heard(now);
        for (let action = liveness.handleTimeout(now); action !== null && reached === null; action = liveness.handleTimeout(now)) {
          if (action === until) reached = action === 'dead' ? 'heartbeat_timeout' : 'suspect';
          if (action === 'send_heartbeat') liveness.heartbeatSent(now);
        }
      }
    },
    outcome: () => reached,
  };
}

/** A channel whose session was cut at the moment from which time passes. */
function withoutSession(): Trial {
  const pair = new Pair();
  const wire = pair.attach('new');
  pair.world.run(1_000);
  wire.cut();
  pair.world.runWhen(() => pair.a.channel.isSuspended, 30_000);
  return { pass: (ms) => pair.world.run(ms), outcome: () => pair.a.failure?.code ?? null };
}

/** A dial over these transports, which answer nothing, or refuse TCP at once. */
function dial(names: readonly TransportName[], isTcpRefused: boolean): Trial {
  const timers = new VirtualTimers();
  const transport = (name: TransportName) => ({
    name,
    dial: (_target: unknown, _credentials: unknown, signal: AbortSignal) =>
      new Promise<never>((_resolve, reject) => {
        const refused = new SelvedgeError('network_unreachable', { peer: 'n', why: 'connection refused' });
        if (name === 'tcp' && isTcpRefused) reject(refused);
        signal.addEventListener('abort', () => reject(new SelvedgeError('network_unreachable', { peer: 'n', why: 'given up' })));
      }),
  });
  const quic = names.includes('quic') ? transport('quic') : null;
  const dialer = new Dialer({ transports: { quic, tcp: transport('tcp') }, timers, random: even });
  const to = { key: 'n', name: 'n', endpoints: [{ host: '192.0.2.1', tcp: names.includes('tcp') ? 443 : null, udp: 443 }] };
  let code: string | null = null;
  dialer
    .dial(to, { chain: [], key: new Uint8Array() }, () => 'peer', new AbortController().signal)
    .catch((error: SelvedgeError) => {
      code = error.code;
    });
  return { pass: (ms) => timers.advance(ms), outcome: () => code };
}

const table: Partial<Record<Limit, Row>> = {
  path_silent_ms_min: { ms: limits.path_silent_ms_min, reason: 'suspect', begin: () => silent(null, 'suspect') },
  path_silent_in_flow_ms_min: { ms: limits.path_silent_in_flow_ms_min, reason: 'suspect', begin: () => silent(null, 'suspect', true) },
  heartbeat_retry_ms: {
    ms: limits.heartbeat_retry_ms * (limits.heartbeat_retries_max + 1),
    reason: 'heartbeat_timeout',
    begin: () => silent(null, 'dead'),
  },
  // Heard of, but never echoed: its program hangs behind a stack that is alive. The last retry falls on the tick.
  heartbeat_unanswered_ms_max: { ms: limits.heartbeat_unanswered_ms_max, reason: 'heartbeat_timeout', begin: () => silent(100, 'dead') },
  carrier_ms_max: { ms: limits.carrier_ms_max, reason: 'network_unreachable', begin: withoutSession },
  dial_ms_max: { ms: limits.dial_ms_max, reason: 'network_unreachable', begin: () => dial(['quic'], false) },
  dial_quic_ms_max: { ms: limits.dial_quic_ms_max, reason: 'network_unreachable', begin: () => dial(['quic', 'tcp'], true) },
  // The hello never comes: the acceptor ends the session, and both know why.
  handshake_ms_max: {
    ms: limits.handshake_ms_max,
    reason: 'handshake_timeout',
    slack_ms: 20,
    begin: async () => {
      const hosts = new Hosts(3);
      hosts.connect();
      await hosts.until(() => hosts.links.length > 0, 100);
      hosts.links[0]?.hold(true);
      return {
        pass: (ms) => hosts.run(ms),
        outcome: () => hosts.a.status()[0]?.last_error?.code ?? null,
      };
    },
  },
  // What is left at the deadline is overdue where policy does not force.
  drain_ms_default: {
    ms: limits.drain_ms_default,
    reason: 'overdue',
    slack_ms: limits.drain_look_ms,
    begin: async () => {
      const hosts = new Hosts(4);
      hosts.b.handle('hold', () => {});
      hosts.connect();
      await hosts.until(() => hosts.state === 'established' && hosts.b.status()[0]?.state === 'established');
      hosts.a.open('beta', 'file_transfer', 'stream', 'hold').write(new Uint8Array(10));
      await hosts.run(100);
      void hosts.b.drain({ deadline_ms: limits.drain_ms_default, force: false });
      return {
        pass: (ms) => hosts.run(ms),
        outcome: () => (hosts.b.drainStatus.state === 'draining' ? null : hosts.b.drainStatus.state),
      };
    },
  },
  // Nothing is left but a control message that nobody takes: waited for beyond the deadline, and not for ever.
  drain_flush_ms_max: {
    ms: limits.drain_flush_ms_max,
    reason: 'drained',
    slack_ms: limits.drain_look_ms,
    begin: async () => {
      const hosts = new Hosts(4);
      hosts.a.handle('hold', () => {});
      hosts.connect();
      await hosts.until(() => hosts.state === 'established' && hosts.b.status()[0]?.state === 'established');
      hosts.b.open(A.node, 'fabric_control', 'messages', 'hold').send(new Uint8Array(10));
      await hosts.run(100);
      void hosts.b.drain({ deadline_ms: 1_000, force: true });
      await hosts.run(1_000);
      return {
        pass: (ms) => hosts.run(ms),
        outcome: () => (hosts.b.drainStatus.state === 'draining' ? null : hosts.b.drainStatus.state),
      };
    },
  },
};

for (const [limit, row] of Object.entries(table)) {
  const { ms, reason, slack_ms = 0, begin } = row;
  t.test(`${limit}: one tick before ${ms} ms it lives, one tick after it is ${reason}`, async (t) => {
    const trial = await begin();
    await trial.pass(ms - 1);
    t.equal(trial.outcome(), null, 'one tick before');
    await trial.pass(2 + slack_ms);
    t.equal(trial.outcome(), reason, 'one tick after');
  });
}

/** Timeouts of channels that another test holds to their tick, by their names. */
const elsewhere: Partial<Record<Limit, string>> = {
  session_linger_ms_max: 'test/unit/transport/tcp-linger.test.ts',
  quic_head_start_ms: 'test/unit/transport/dialer.test.ts',
  dial_endpoint_stagger_ms: 'test/unit/transport/dialer.test.ts',
  upgrade_probe_ms: 'test/unit/transport/dialer.test.ts',
  udp_settled_ms: 'test/unit/transport/udp-hold.test.ts',
  admission_wait_ms_max: 'test/unit/peering/admission.test.ts',
  admission_early_ms_max: 'test/unit/peering/admission.test.ts',
  admission_late_ms_max: 'test/unit/peering/admission.test.ts',
  revalidation_ms: 'test/unit/peering/peering.test.ts',
  leaf_refresh_ms_max: 'test/unit/peering/peering.test.ts',
  leaf_overlap_ms: 'test/unit/tower/renewal.test.ts',
  trust_grace_ms: 'test/unit/tower/trust-rotation.test.ts',
  tower_away_ms: 'test/unit/peering/tower-away.test.ts',
  carry_denied_ms_base: 'test/unit/overlay/flow-carrier.test.ts',
  carry_denied_ms_max: 'test/unit/overlay/flow-carrier.test.ts',
  penalty_ms_base: 'test/unit/peering/penalty-box.test.ts',
  penalty_ms_max: 'test/unit/peering/penalty-box.test.ts',
  penalty_forgotten_ms: 'test/unit/peering/penalty-box.test.ts',
};

/** What an operator gives in the place of `drain_ms_default`, and a transport's own time, which no cadence comes near (below). */
const alike: readonly Limit[] = ['drain_ms_max', 'drain_stop_ms_default', 'quic_idle_ms_max'];

/** Of a channel, but nothing fails at their end: cadences, looks, and pauses before another attempt. */
const pauses: readonly Limit[] = [
  'flow_wide_bytes_per_ms',
  'tcp_trickle_ms',
  'tcp_pause_ms',
  'read_gather_ms',
  'read_shared_ms',
  'upgrade_probe_jitter_ms_max',
  'backoff_ms_base',
  'backoff_ms_max',
  'upgrade_probe_ms_max',
  'upgrade_probe_fast_window_ms',
  'udp_hold_ms_base',
  'udp_hold_ms_max',
  'pace_lead_ms',
  'heartbeat_ms_active',
  'heartbeat_ms_realtime',
  'heartbeat_ms_storage',
  'heartbeat_tick_ms',
  'drain_look_ms',
];

/** Of other rooms than a channel’s life: the tower’s and the host’s own work, identity, HTTP, files, app networks, the lab. */
const others =
  /^(token|rules|snapshot|clock|doctor|enroll|view|audit|api|operator|signer|certificate|leaf|trust|site|unseal|jwks|outbound|transfer|tunnel|app|wireguard|carry|report|lab)_/;

t.test('every time in limits.ts has its pair here or in the test that is named, or is none that anything of a channel fails by', async (t) => {
  const times = (Object.keys(limits) as Limit[]).filter((limit) => /_ms(_|$)/.test(limit));
  t.ok(times.length > 80);
  const unplaced = times.filter((limit) => !(limit in table || limit in elsewhere || alike.includes(limit) || pauses.includes(limit) || others.test(limit)));
  t.same(unplaced, []);
  for (const [limit, file] of Object.entries(elsewhere)) t.ok(readFileSync(join(root, file), 'utf8').includes(`limits.${limit}`), `${file} names ${limit}`);
});

t.test('no cadence of heartbeats, with its jitter, leaves a transport idle until it gives up, and each is within spec 7.2', async (t) => {
  const bounds = { heartbeat_ms_active: [5_000, 15_000], heartbeat_ms_realtime: [2_000, 10_000], heartbeat_ms_storage: [15_000, 60_000] } as const;
  for (const [limit, [least, most]] of Object.entries(bounds)) {
    const ms = limits[limit as keyof typeof bounds];
    t.ok(ms * (1 - limits.heartbeat_jitter_part) >= least && ms * (1 + limits.heartbeat_jitter_part) <= most, limit);
    t.ok(ms * (1 + limits.heartbeat_jitter_part) + limits.heartbeat_retry_ms < limits.quic_idle_ms_max, limit);
  }
});
