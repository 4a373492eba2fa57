/** Warnings before a certificate ends: each once, at its time, and only where nobody renews it. */
import t from 'tap';
import { createAuthority } from '../../../src/identity/authority.ts';
import { certificateFacts, ExpiryWatch, warningText } from '../../../src/identity/expiry.ts';
import { lifetimeOf, renewAt_ms } from '../../../src/identity/lifetime.ts';
import { systemRandom as random } from '../../../src/transport/system.ts';
import { DAY_MS, NOW_MS as now_ms } from './forge.ts';

const { intermediate, root } = await createAuthority({ cluster: 'c1', now_ms, random });
const ends_ms = lifetimeOf(intermediate).notAfter_ms;

t.test('what nobody renews is warned of at 30, 14, 7 and 1 days and at its end, once each', async (t) => {
  const watch = new ExpiryWatch();
  const told: string[] = [];
  for (let at_ms = ends_ms - 40 * DAY_MS; at_ms < ends_ms + 3 * DAY_MS; at_ms += DAY_MS / 24) {
    for (const facts of watch.look([certificateFacts({ name: 'the root', der: intermediate, renews_ms: null }, at_ms)]))
      told.push(`${facts.warning_days}: ${facts.days}`);
  }
  t.same(told, ['30: 30', '14: 14', '7: 7', '1: 1', '0: 0']);
});

t.test('what renews itself is warned of only once that is late', async (t) => {
  const renews_ms = ends_ms - 10 * DAY_MS;
  const at = (days: number) => certificateFacts({ name: 'a', der: intermediate, renews_ms }, ends_ms - days * DAY_MS).warning_days;
  t.same([29, 13, 9, 7, 1, 0].map(at), [null, null, null, 7, 1, 0]);
});

t.test('a warning names the certificate, the day, and how long there is', async (t) => {
  const text = (days: number) => warningText(certificateFacts({ name: 'the root', der: root, renews_ms: null }, lifetimeOf(root).notAfter_ms - days * DAY_MS));
  t.match(text(20), /^the root ends at 20\d\d-\d\d-\d\dT\d\d:\d\dZ, in 20 days$/);
  t.match(text(0.5), /less than a day$/);
  t.match(text(-1), /^the root ended at/);
});

t.test('the time to renew is two thirds of a life, and a twentieth to either side', async (t) => {
  const life = { notBefore_ms: 0, notAfter_ms: 60 };
  t.same(
    [0, 0.5, 1].map((unit) => Math.round(renewAt_ms(life, unit))),
    [37, 40, 43],
  );
});
