/** A refusal for dates says whether a clock is off, whose, which way and by how much, and what to do; on a virtual clock, both ways. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { remedyOf, SelvedgeError } from '../../../src/base/errors.ts';
import { skewOf, skewOfFresh } from '../../../src/identity/clock-evidence.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { DAY_MS, makeAuthority } from '../../fixtures/certs.ts';

const timers = new VirtualTimers();
/** The true time; each test has a host whose clock is off. */
const now_ms = timers.clock.wall();
const life = { notBefore_ms: now_ms - 300_000, notAfter_ms: now_ms + 30 * DAY_MS };
const tower = { of: 'the tower at 192.0.2.1:443', at_ms: now_ms };

function refusal(judge: () => unknown): SelvedgeError {
  try {
    judge();
  } catch (error) {
    if (error instanceof SelvedgeError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

t.test('the clock by which the certificate is good is right: ours is told to be ahead or behind, and by how much', async (t) => {
  const ahead = skewOf(now_ms + 400 * DAY_MS, tower, life);
  t.match(ahead, {
    code: 'clock_skew',
    message: /^the clock of this host is 400 days ahead: it says .*, and that of the tower at 192\.0\.2\.1:443 .*, by which the certificate is valid$/,
  });
  t.match(remedyOf('clock_skew', ahead?.facts.what), /^Set the clock of this host.*Nothing has to be enrolled anew/);
  const behind = skewOf(now_ms - 3 * 3_600_000, tower, life);
  t.match(behind, { code: 'clock_skew', facts: { direction: 'behind', by: '3 hours', seconds: 10_800 } });
});

t.test('clocks that agree, to the tick, leave it to be expiry; one tick more, and it is a clock', async (t) => {
  const ended = { notBefore_ms: now_ms - 40 * DAY_MS, notAfter_ms: now_ms - 10 * DAY_MS };
  for (const sign of [-1, 1]) {
    t.equal(skewOf(now_ms + sign * limits.clock_skew_ms_max, tower, ended), null);
    t.match(skewOf(now_ms + sign * (limits.clock_skew_ms_max + 1), tower, ended), {
      code: 'clock_skew',
      message: /^one of two clocks is .* and by neither is the certificate valid/,
    });
  }
  t.match(skewOf(now_ms + DAY_MS, tower, null), { facts: { what: 'one of two clocks' } }, 'what was shown is no certificate');
  t.equal(skewOf(Number.NaN, tower, life), null);
});

t.test('a certificate that was made a moment ago tells the time: both ways', async (t) => {
  t.equal(skewOfFresh(now_ms, life, 300_000), null);
  t.match(skewOfFresh(now_ms - 6 * 60_000, life, 300_000), {
    code: 'clock_skew',
    message: /^the clock of this host is 6 minutes behind: .*the tower made this host's certificate just now/,
  });
  t.match(skewOfFresh(now_ms + 31 * DAY_MS, life, 300_000), { code: 'clock_skew', message: /^the clock of this host is 31 days ahead/ });
});

t.test('of a peer: not yet valid is a clock, ours where what we hold was made later; expired is expiry, and each has its remedy', async (t) => {
  const authority = await makeAuthority('test', now_ms);
  const { chain } = await authority.issue({ node: '0a0000000001', notBefore_ms: now_ms, notAfter_ms: now_ms + DAY_MS });
  const judged = (at_ms: number, past_ms?: number) =>
    verifyPeer({
      chain,
      roots: [authority.root],
      cluster: 'test',
      now_ms: at_ms,
      usage: 'client',
      ...(past_ms !== undefined && { knownPast: { name: 'its snapshot', at_ms: past_ms } }),
    });
  t.ok(judged(now_ms));
  const ours = refusal(() => judged(now_ms - 2 * DAY_MS, now_ms - 3_600_000));
  t.match(ours, {
    code: 'certificate_invalid',
    message: /not valid before .* this host's clock says .*, and is behind by 47 hours at least: its snapshot was made at/,
  });
  t.match(remedyOf(ours.code, ours.facts.what), /^Set the clock of this host/);
  for (const past_ms of [undefined, now_ms - 3 * DAY_MS, now_ms - 2 * DAY_MS + limits.clock_skew_ms_max]) {
    const either = refusal(() => judged(now_ms - 2 * DAY_MS, past_ms));
    t.match(either, { code: 'certificate_invalid', message: /one of the two clocks is wrong/ });
    t.match(remedyOf(either.code, either.facts.what), /^Compare the clocks/);
  }
  await timers.advance(DAY_MS + 1_000);
  const ended = refusal(() => judged(timers.clock.wall(), now_ms));
  t.match(ended, { code: 'certificate_invalid', message: /it expired at .* this host's clock says/ });
  t.match(remedyOf(ended.code, ended.facts.what), /netcheck.*agree it has ended.*enrolls again/);
});
