/** How often something may happen, and what a peer may have this end do for it, on a clock that stands still until it is moved. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { Allowance } from '../../../src/channel/allowance.ts';
import { encodeControl } from '../../../src/channel/frame-encoder.ts';
import { frameTypes } from '../../../src/channel/frames.ts';
import { Pair } from './pair.ts';

const A = 'aaaaaaaaaaaa';
const B = 'bbbbbbbbbbbb';

t.test('as many at once as its burst, one more in each turn, and what was too much is not counted', async (t) => {
  const allowance = new Allowance(3, 10);
  const now = 5_000;
  t.strictSame(
    [1, 2, 3, 4].map(() => allowance.take(now)),
    [true, true, true, false],
  );
  t.notOk(allowance.take(now + 99));
  t.ok(allowance.take(now + 100));
  t.notOk(allowance.take(now + 100));
  t.strictSame(
    [1, 2, 3, 4].map(() => allowance.take(now + 60_000)),
    [true, true, true, false],
    'quiet time is not saved up beyond the burst',
  );
});

/** The acceptor of a pair whose dialer is this test. */
class Victim {
  readonly pair = new Pair();
  readonly types: (number | undefined)[] = [];
  #next = 1;

  constructor() {
    this.pair.b.onTransmit = (frame) => void this.types.push(frame.head[0]);
    this.pair.b.do((channel) => channel.attach(this.pair.world.now, 1, { transport: 'memory', chunkBytesMax: 16_384 }, 'new'));
  }

  say(...frames: Uint8Array[]): void {
    this.pair.b.do((channel) => {
      for (const frame of frames) channel.receive(this.pair.world.now, 1, 0, frame);
    });
  }

  heartbeat(sequence: number): void {
    const path = { stamp_us: 0, latency_us: 0, jitter_us: 0, loss_ppm: 0, health: 0, draining: sequence > 1_000, configVersion: 0, routeEpoch: 0 };
    this.say(encodeControl({ type: 'heartbeat', channel: this.pair.b.channel.id, from: A, to: B, sequence, ...path }));
  }

  /** `file_transfer` has no flows of kind `latest`. */
  refusedOpening(): void {
    this.say(encodeControl({ type: 'open', flow: this.#next, class: 'file_transfer', kind: 'latest', service: 'x' }));
    this.#next += 2;
  }

  wait(ms: number): void {
    this.pair.world.run(ms);
  }
}

t.test('heartbeats beyond any cadence are counted, and neither answered nor believed; the channel lives', async (t) => {
  const victim = new Victim();
  const answers = () => victim.types.filter((type) => type === frameTypes.echo).length;
  for (let sequence = 1; sequence <= limits.heartbeat_answers_burst; sequence++) victim.heartbeat(sequence);
  t.equal(answers(), limits.heartbeat_answers_burst);
  for (let count = 0; count < 1_000; count++) victim.heartbeat(1_001 + count);
  t.equal(answers(), limits.heartbeat_answers_burst);
  t.equal(victim.pair.b.channel.heartbeatsIgnored, 1_000);
  t.notOk(victim.pair.b.channel.draining.isPeers, 'what they say is not heard');
  victim.wait(1_000);
  victim.heartbeat(20);
  t.equal(answers(), limits.heartbeat_answers_burst + 1);
  t.equal(victim.pair.b.failure, null);
});

t.test('as many openings as a peer may have flows are refused at once; who goes on and on loses the channel, with the limit named', async (t) => {
  const victim = new Victim();
  for (let count = 0; count < limits.refused_openings_burst; count++) victim.refusedOpening();
  t.equal(victim.pair.b.failure, null);
  victim.wait(1_000);
  for (let count = 0; count < limits.refused_openings_per_s; count++) victim.refusedOpening();
  t.equal(victim.pair.b.failure, null, 'and so many in each second from then on');
  victim.refusedOpening();
  victim.refusedOpening();
  t.match(victim.pair.b.failure, { code: 'limit_reached', facts: { limit: 'refused_openings_per_s' } });
  t.match(victim.pair.b.channel.violation, { code: 'limit_reached' });
});

t.test('a channel that ends by what this end decided, or by what the peer says, blames nobody', async (t) => {
  const victim = new Victim();
  victim.pair.b.do((channel) => channel.close('peer_disabled', 'it is'));
  t.equal(victim.pair.b.channel.violation, null);
});
