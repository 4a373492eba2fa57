/** When UDP is worth a try again: at once after a first loss, ever later where it comes and goes. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { UdpHold } from '../../../src/transport/udp-hold.ts';

t.test('each loss soon after UDP had come back doubles the wait, up to its cap; one that comes later starts anew', async (t) => {
  const hold = new UdpHold();
  let now = 1_000;
  const lose = (after_ms: number): number => {
    now += after_ms;
    hold.lost(now);
    const left_ms = hold.left_ms(now);
    hold.lost(now + 1);
    t.equal(hold.left_ms(now), left_ms, 'a loss that is known already is none');
    now += left_ms;
    t.equal(hold.left_ms(now), 0);
    hold.back(now);
    return left_ms;
  };
  t.equal(lose(0), 0, 'the first');
  const soon = limits.udp_settled_ms - 1;
  const waits = Array.from({ length: 8 }, () => lose(soon));
  t.same(
    waits,
    waits.map((_, index) => Math.min(limits.udp_hold_ms_base * 2 ** index, limits.udp_hold_ms_max)),
  );
  t.equal(waits.at(-1), limits.udp_hold_ms_max);
  t.equal(lose(limits.udp_settled_ms), 0, 'it had settled');
  t.equal(lose(1), limits.udp_hold_ms_base);
});
