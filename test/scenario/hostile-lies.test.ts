/**
 * A peer that lies, over QUIC and TCP lanes, about credits, offsets, epochs and heartbeats. What can be told to be a lie ends its channel with the code for it; what could
 * as well be a bad path or a slow program costs nobody but the liar. A neighbour talks to the same host all the while, and everything comes back to it.
 */
import t from 'tap';
import { encodeControl, encodeDataHead } from '../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { limits } from '../../src/base/limits.ts';
import { CONTROL_FLOW } from '../../src/transport/session.ts';
import { attack, heartbeatOf, hostile, type Liar, MIB } from './attacker.ts';
import { alpha, beta, isEstablished, judgeOf, overEach, startHost, viewWith } from './hosts.ts';
import { hello, hostileSession, speak } from './raw-session.ts';

t.setTimeout(180_000);

const one = Uint8Array.of(1);
/** The sequence number of a heartbeat that is asked last. */
const LAST = 1_000_000;
const HUGE = Number.MAX_SAFE_INTEGER;

const open = (flow: number) => encodeControl({ type: 'open', flow, class: 'clipboard', kind: 'stream', service: 'echo' });
const ack = (flow: number, consumed: number, limit: number) => encodeControl({ type: 'ack', flow, consumed, limit });
const data = (flow: number, offset: number) => encodeDataHead(flow, offset, 1, false, null);
const resumed = (flow: number, status: 'live' | 'done', received: number) =>
  encodeControl({ type: 'resume', more: false, entries: [{ flow, status, received }] });
const report = (value: number) => encodeControl({ type: 'report', bytes: value, clock_us: value, owd_min_us: value, stamp_us: value, held_us: value });

/** How it goes on with this liar: the code that it was refused with, or `alive`. */
async function outcome(h: Liar): Promise<string> {
  h.say(0, heartbeatOf(h, LAST));
  const answered = h.heard((frame) => frame.type === 'echo' && frame.sequence === LAST).then(() => 'alive');
  return Promise.race([h.closed.then(({ code }) => code), answered]);
}

const told: readonly [string, RegExp, (h: Liar) => void][] = [
  ['credit: more was consumed than was ever sent', /flow_violation/, (h) => h.say(1, open(1), ack(1, 1, HUGE))],
  ['credit: of a flow that never was', /flow_violation/, (h) => h.say(9, ack(9, 0, HUGE))],
  ['offset: beyond the credit given', /flow_violation/, (h) => h.say(1, open(1), data(1, 2 * limits.flow_window_bytes_initial), one)],
  [
    'offset: more islands than a path could make',
    /limit_reached/,
    (h) => {
      h.say(1, open(1));
      for (let count = 0; count <= limits.flow_segments_out_of_order_max + 1; count++) h.say(1, data(1, 2 + 2 * count), one);
    },
  ],
  ['offset: a flow resumed where it has never been', /flow_violation/, (h) => h.say(0, open(1), resumed(1, 'live', MIB))],
  ['offset: a flow that is done there, and has not begun here', /flow_violation/, (h) => h.say(0, open(1), resumed(1, 'done', 0))],
  ['heartbeat: of another channel', /frame_invalid/, (h) => h.say(0, heartbeatOf(h, 1, { channel: new Uint8Array(16) }))],
  ['heartbeat: from another node', /frame_invalid/, (h) => h.say(0, heartbeatOf(h, 1, { from: alpha.node }))],
  ['heartbeat: to another node', /frame_invalid/, (h) => h.say(0, heartbeatOf(h, 1, { to: alpha.node }))],
];

const borne: readonly [string, (h: Liar) => void][] = [
  ['credit: that is taken back', (h) => h.say(1, open(1), data(1, 0), one, ack(1, 0, 1))],
  ['credit: for all octets there are', (h) => h.say(1, open(1), ack(1, 0, HUGE))],
  ['offset: what was said is said again, otherwise', (h) => h.say(1, open(1), data(1, 0), one, data(1, 0), Uint8Array.of(2))],
  ['epoch: of the far future', (h) => h.say(0, heartbeatOf(h, 1, { configVersion: HUGE, routeEpoch: HUGE }))],
  ['epoch: that goes back', (h) => h.say(0, heartbeatOf(h, 1, { routeEpoch: 9 }), heartbeatOf(h, 2, { routeEpoch: 1 }))],
  ['heartbeat: sequences that jump about', (h) => h.say(0, heartbeatOf(h, 900), heartbeatOf(h, 3), heartbeatOf(h, 3))],
  ['heartbeat: a path of an hour', (h) => h.say(0, heartbeatOf(h, 1, { latency_us: 0xffff_ffff, jitter_us: 0xffff_ffff, loss_ppm: 1_000_000 }))],
  ['heartbeat: answers to what was not asked', (h) => h.say(0, ...Array.from({ length: 50 }, (_, index) => echo(index * 1_000, 7)))],
  ['heartbeat: an answer from before it was asked', (h) => h.say(0, echo(1, 0xffff_ffff))],
  ['a path that delivers more than was sent', (h) => h.say(0, report(0xffff_ffff), report(0), report(0x7fff_ffff))],
];

function echo(sequence: number, held_us: number): Uint8Array {
  return encodeControl({ type: 'echo', sequence, stamp_us: 0, held_us });
}

attack(t, 'a lie that can be told ends the liar’s channel, with its code', async (t, victim, transport) => {
  for (const [what, code, say] of told) {
    const h = await hostile(t, victim, { transport });
    say(h);
    t.match((await h.closed).code, code, what);
  }
});

attack(t, 'a lie that cannot be told costs nobody but the liar', async (t, victim, transport) => {
  for (const [what, say] of borne) {
    const h = await hostile(t, victim, { transport });
    say(h);
    t.equal(await outcome(h), 'alive', what);
    h.session.close('session_closed', 'done');
  }
});

attack(t, 'a peer that gives credit without end and takes nothing makes its host keep its windows, and no more', async (t, victim, transport) => {
  const before = (await victim.facts()).rss_bytes;
  const h = await hostile(t, victim, { transport });
  const sent = await fill(h, [1, 3, 5, 7, 9, 11, 13, 15], 160 * MIB);
  const grown = ((await victim.facts()).rss_bytes - before) / MIB;
  t.comment(`${Math.round(sent / MIB)} MiB said, ${Math.round(grown)} MiB grown`);
  t.ok(sent < 160 * MIB, 'it took no more at some point');
  t.ok(grown < 320, `${grown} MiB`);
  h.session.close('session_closed', 'done');
  await h.closed;
});

/** Octets to be echoed, on all these flows, within the credit that the host gives, until it gives no more or all were said. None of what comes back is acknowledged. */
async function fill(h: Liar, flows: readonly number[], max: number): Promise<number> {
  const piece = new Uint8Array(60 * 1024);
  const at = new Map(flows.map((flow) => [flow, 0]));
  const creditOf = (flow: number): number => {
    let limit: number = limits.flow_window_bytes_initial;
    for (const frame of h.control) if (frame.type === 'ack' && frame.flow === flow) limit = Math.max(limit, frame.limit);
    return limit;
  };
  for (const flow of flows) h.say(flow, open(flow), ack(flow, 0, HUGE));
  let sent = 0;
  for (let asked = 1, idle = 0; idle < 20 && sent < max && !h.session.isClosed; asked++) {
    const before = sent;
    for (const flow of flows) {
      const credit = creditOf(flow);
      for (let offset = at.get(flow) ?? 0; offset + piece.length <= credit; offset += piece.length) {
        h.say(flow, encodeDataHead(flow, offset, piece.length, false, null), piece);
        at.set(flow, offset + piece.length);
        sent += piece.length;
        await h.ready();
      }
    }
    // Whatever was said before this was refused has been heard.
    const last = 2 * asked + 15;
    h.say(0, encodeControl({ type: 'open', flow: last, class: 'clipboard', kind: 'stream', service: 'nobody' }));
    await Promise.race([h.heard((frame) => frame.type === 'reset' && frame.flow === last), h.closed]);
    idle = sent === before ? idle + 1 : 0;
  }
  return sent;
}

overEach(
  t,
  'a route epoch that is behind what the host knows of the peer is refused with route_epoch_stale; the one it should have is let in',
  async (t, transport, authority) => {
    const policy = judgeOf(beta);
    policy.follow({ ...viewWith(beta, []), epochOf: () => 7 });
    const b = await startHost(t, { self: beta, authority, transport, policy });
    const credentials = await authority.issue({ node: alpha.node, site: alpha.site });
    const says = async (routeEpoch: number) => {
      const { session } = await hostileSession(t, transport, b, credentials);
      const heard = speak(session);
      session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', { ...hello, routeEpoch }), null);
      return { session, heard };
    };
    const stale = await says(6);
    t.match(await stale.heard.error, { code: 'route_epoch_stale' });
    const fresh = await says(7);
    await b.until(isEstablished);
    fresh.session.close('session_closed', 'done');
  },
);
