/**
 * What a node of the cluster that turned hostile can do to another: end its own channel, and nothing else. Each attack runs over QUIC and
 * over TCP lanes against a program of its own; its memory is measured, and an honest neighbour's channel is asked before and after.
 */
import t from 'tap';
import { encodeControl, encodeDatagramHead, encodeDataHead, encodeLatestHead } from '../../src/channel/frame-encoder.ts';
import { attack, heartbeatOf, hostile, MIB, mallory, type Victim } from './attacker.ts';
import { helloOf } from '../../src/lab/hello-of.ts';
import { type Hostile, rawFrame } from './hostile-peer.ts';

const one = Uint8Array.of(1);
/** The sequence number of a heartbeat that no random one has. */
const LAST = 1_000_000;
const join = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
const many = (count: number, make: (index: number) => Uint8Array): Uint8Array => join(...Array.from({ length: count }, (_, index) => make(index)));
const open = (flow: number, service = 'echo') => encodeControl({ type: 'open', flow, class: 'clipboard', kind: 'stream', service });

/** Runs `flood` and gives the victim's growth, in MiB. */
async function growth(victim: Victim, flood: () => Promise<void>): Promise<number> {
  const before = (await victim.facts()).rss_bytes;
  await flood();
  return Math.round(((await victim.facts()).rss_bytes - before) / MIB);
}

attack(t, 'frames against the format or the rules end the channel with their code', async (t, victim, transport) => {
  const cases: [string, RegExp, (h: Hostile) => void][] = [
    ['an unknown type', /frame_invalid/, (h) => h.say(0, rawFrame(2, one))],
    ['a second hello', /frame_invalid/, (h) => h.say(0, rawFrame('hello', new Uint8Array(200)))],
    ['a control frame beyond its size', /frame_too_large/, (h) => h.say(0, Uint8Array.of(7, 0x80, 0x01, 0, 0))],
    ['a data frame beyond its size', /frame_too_large/, (h) => h.say(1, Uint8Array.of(4, 0x80, 0x02, 0, 0))],
    ['a data frame without a head', /frame_invalid/, (h) => h.say(1, Uint8Array.of(4, 0))],
    ['a truncated open', /frame_invalid/, (h) => h.say(0, rawFrame('open', one))],
    ['flow 0', /frame_invalid/, (h) => h.say(0, rawFrame('open', Uint8Array.of(0, 6, 0, 0)))],
    ['a flow of the other side', /flow_violation/, (h) => h.say(0, open(2))],
    ['a flow far ahead', /flow_violation/, (h) => h.say(0, open(1_000_001))],
    ['data of a flow that never was', /flow_violation/, (h) => h.say(9, encodeDataHead(9, 0, 1, false, null), one)],
    ['data beyond the credit', /flow_violation/, (h) => h.say(1, open(1), encodeDataHead(1, 10 * MIB, 1, false, null), one)],
    ['data at the end of all numbers', /flow_violation/, (h) => h.say(1, open(1), encodeDataHead(1, Number.MAX_SAFE_INTEGER - 1, 1, false, null), one)],
    ['data beyond the end of all numbers', /frame_invalid/, (h) => h.say(1, open(1), encodeDataHead(1, Number.MAX_SAFE_INTEGER, 1, false, null), one)],
    ['an end that moves', /flow_violation/, (h) => h.say(1, open(1), encodeDataHead(1, 5, 1, true, null), one, encodeDataHead(1, 7, 1, true, null), one)],
    ['an acknowledgement of what was not sent', /flow_violation/, (h) => h.say(1, open(1), encodeControl({ type: 'ack', flow: 1, consumed: 9, limit: 99 }))],
    ['a heartbeat of another channel', /frame_invalid/, (h) => h.say(0, heartbeatOf(new Uint8Array(16), 1))],
    [
      'too many flows to resume',
      /frame_invalid/,
      (h) =>
        h.say(
          0,
          many(8, (part) => resume(512 * part, 512)),
        ),
    ],
  ];
  for (const [what, code, say] of cases) {
    const h = await hostile(t, victim, { transport });
    say(h);
    t.match((await h.closed).code, code, what);
  }
});

attack(t, 'another node’s channel cannot be taken, resumed or ended, even by one who knows its id and secret', async (t, victim, transport) => {
  const owner = await hostile(t, victim, { transport, identity: { ...mallory, node: '0a0000000999' } });
  if (!owner.accept) throw new Error('no accept');
  const { channel, secret } = owner.accept;
  const thief = await hostile(t, victim, { transport, hello: { mode: 'resume', channel, secret } });
  t.equal(thief.accept?.mode, 'new', 'the thief gets a channel of its own');
  t.notSame(thief.accept?.channel, channel);
  for (const hello of [{ node: '0a0000000999' }, { cluster: 'other' }]) {
    const liar = await hostile(t, victim, { transport, identity: { ...mallory, node: '0e0000000777' }, hello });
    t.match((await liar.closed).code, /wrong_(node|cluster)/, 'a hello that its certificate does not bear out');
  }
  const wrong = await hostile(t, victim, {
    transport,
    identity: { ...mallory, node: '0e0000000888' },
    hello: { mode: 'migrate', channel, secret: new Uint8Array(32) },
  });
  t.equal(wrong.accept?.mode, 'new');
  t.notOk(owner.session.isClosed, 'and its owner did not notice');
});

attack(t, 'many small things take no more memory than few large ones', async (t, victim, transport) => {
  const h = await hostile(t, victim, { transport });
  const flood = async (flow: number, count: number, bytes: Uint8Array): Promise<void> => {
    for (let index = 0; index < count && !h.session.isClosed; index++) {
      h.say(flow, bytes);
      await h.ready();
    }
  };
  const grown = {
    'empty datagrams': await growth(victim, async () => {
      h.say(1, encodeControl({ type: 'open', flow: 1, class: 'vpn_packet', kind: 'datagrams', service: 'echo' }));
      await flood(
        1,
        60,
        many(5_000, () => encodeDatagramHead(1, 0)),
      );
    }),
    'a frame of one-octet pieces': await growth(victim, async () => {
      h.say(3, encodeControl({ type: 'open', flow: 3, class: 'render', kind: 'latest', service: 'echo' }));
      let offset = 0;
      for (let index = 0; index < 60; index++)
        await flood(
          3,
          1,
          many(5_000, () => join(encodeLatestHead({ flow: 3, sequence: 1, total: 4 * MIB, offset: offset++ }, 1), one)),
        );
    }),
    'claims of the largest frames': await growth(victim, async () => {
      for (let flow = 5; flow < 5 + 2 * 60; flow += 2) h.say(flow, encodeControl({ type: 'open', flow, class: 'render', kind: 'latest', service: 'echo' }));
      for (let sequence = 1; sequence < 100; sequence++)
        await flood(
          5,
          1,
          many(60, (index) => join(encodeLatestHead({ flow: 5 + 2 * index, sequence, total: 4 * MIB, offset: 0 }, 1), one)),
        );
    }),
    'claims of the largest messages': await growth(victim, async () => {
      for (let flow = 201; flow < 201 + 2 * 50; flow += 2) {
        h.say(flow, encodeControl({ type: 'open', flow, class: 'clipboard', kind: 'messages', service: 'echo' }));
        h.say(flow, encodeDataHead(flow, 0, 4, false, null), Uint8Array.of(0x80, 0x10, 0, 0));
      }
    }),
    heartbeats: await growth(victim, () =>
      flood(
        0,
        40,
        many(500, (index) => heartbeatOf(h.accept?.channel ?? one, index + 1)),
      ),
    ),
    'frames of a later version': await growth(victim, () => flood(0, 200, rawFrame(70, new Uint8Array(16_000)))),
  };
  t.comment(JSON.stringify(grown));
  for (const [what, mib] of Object.entries(grown)) t.ok(mib < 80, `${what}: ${mib} MiB`);
});

attack(t, 'flows that nobody reads and resets that nobody takes are bounded', async (t, victim, transport) => {
  const piece = new Uint8Array(63 * 1024);
  const grown = await growth(victim, async () => {
    const h = await hostile(t, victim, { transport });
    // Echoes that this end never takes: each flow fills its window, and no more.
    for (let flow = 1; flow < 2 * 200 && !h.session.isClosed; flow += 2) {
      h.say(flow, open(flow));
      for (let offset = 0; offset + piece.length <= 256 * 1024; offset += piece.length) {
        h.say(flow, encodeDataHead(flow, offset, piece.length, false, null), piece);
        await h.ready();
      }
    }
  });
  t.ok(grown < 250, `200 flows of 256 KiB, there and back: ${grown} MiB`);
  const flooded = await growth(victim, async () => {
    const h = await hostile(t, victim, { transport });
    for (let flow = 1; flow < 2 * 20_000 && !h.session.isClosed; flow += 2_000) {
      h.say(
        0,
        many(1_000, (index) => open(flow + 2 * index, 'nobody')),
      );
      await h.ready();
    }
  });
  t.ok(flooded < 100, `20,000 openings that are refused: ${flooded} MiB`);
});

attack(t, 'one flow that is not read stalls no other', async (t, victim, transport) => {
  const h = await hostile(t, victim, { transport });
  h.say(1, open(1));
  const piece = new Uint8Array(60 * 1024);
  for (let offset = 0; offset < 4 * piece.length; offset += piece.length) h.say(1, encodeDataHead(1, offset, piece.length, false, null), piece);
  h.say(3, open(3), encodeDataHead(3, 0, 1, true, null), one);
  // Flow 1 is never acknowledged; flow 3 is echoed, and ends.
  await h.heard((frame) => frame.type === 'ack' && frame.flow === 3 && frame.consumed === 1);
  t.notOk(h.session.isClosed);
});

attack(t, 'random octets in every frame type never do more than end their own channel', async (t, victim, transport) => {
  let seed = 0x5e1f;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const codes = new Set<string>();
  for (let round = 0; round < 60; round++) {
    const h = await hostile(t, victim, { transport });
    h.say(
      1,
      open(1),
      encodeControl({ type: 'open', flow: 3, class: 'render', kind: 'latest', service: 'echo' }),
      encodeControl({ type: 'open', flow: 5, class: 'input', kind: 'messages', service: 'echo' }),
    );
    for (let count = 0; count < 40; count++)
      h.say(
        random(2) * 3,
        rawFrame(
          random(14),
          Uint8Array.from({ length: random(40) }, () => (random(3) === 0 ? random(256) : random(8))),
        ),
      );
    h.say(0, heartbeatOf(h.accept?.channel ?? one, LAST));
    const ending = await Promise.race([
      h.closed.then(({ code }) => code),
      h.heard((frame) => frame.type === 'echo' && frame.sequence === LAST).then(() => 'alive'),
    ]);
    codes.add(ending);
    h.session.close('session_closed', 'done');
  }
  t.ok(
    [...codes].every((code) => /^(alive|frame_invalid|frame_too_large|flow_violation|limit_reached)$/.test(code)),
    [...codes].join(' '),
  );
  const { codes: seen } = await victim.facts();
  t.notOk(Object.keys(seen).includes('internal_error'), JSON.stringify(seen));
});

attack(t, 'a node has few sessions that wait for a hello, and few that it moves away from', async (t, victim, transport) => {
  const credentials = await victim.authority.issue({ node: mallory.node, site: mallory.site });
  const mute = await Promise.all(Array.from({ length: 5 }, () => hostile(t, victim, { transport, credentials, hello: null })));
  const refused = await Promise.race(mute.map(({ closed }) => closed));
  t.match(refused, { code: 'limit_reached' }, 'the fifth that says nothing');
  for (const { session } of mute) session.close('session_closed', 'done');
  await Promise.all(mute.map(({ closed }) => closed));
  // The victim hears of those ends a little later than this end does.
  let first = await hostile(t, victim, { transport, credentials });
  for (let tries = 0; first.accept === null && tries < 50; tries++) {
    await first.closed;
    first = await hostile(t, victim, { transport, credentials });
  }
  if (!first.accept) throw new Error('no accept');
  const { channel, secret } = first.accept;
  const moved: Hostile[] = [];
  for (let count = 0; count < 5; count++)
    moved.push(await hostile(t, victim, { transport, credentials, hello: helloOf(mallory, { mode: 'migrate', channel, secret }) }));
  t.match(await first.closed, { code: 'replaced' }, 'the oldest is dropped');
});

function resume(from: number, count: number): Uint8Array {
  return encodeControl({
    type: 'resume',
    more: true,
    entries: Array.from({ length: count }, (_, index) => ({ flow: 2 * (from + index) + 1, status: 'live' as const, received: 0 })),
  });
}
