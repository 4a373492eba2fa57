/** The certificates in the store: how many days each is still good, by the rule that status and log follow (identity/expiry.ts). */
import type { Clock } from '../../base/seam.ts';
import { certificateFacts, type Watched, warningText } from '../../identity/expiry.ts';
import { lifetimeOf, renewAt_ms } from '../../identity/lifetime.ts';
import type { SealedStore } from '../../identity/sealed-store.ts';
import { type Check, type Finding, fault, ok, warning } from './finding.ts';
import type { OpenedStore } from './opened-store.ts';

const SUFFIX = '.crt';
const EXPECTED = 'good, and renewed in time';
/** The one that nothing renews: what replaces it is a new trust. */
const ROOT = 'ca/root.crt';

export function certificatesCheck(opened: OpenedStore, clock: Pick<Clock, 'wall'>): Check {
  return {
    name: 'certificates',
    run: async (signal) => {
      const result = await opened(signal);
      if (result.kind !== 'opened')
        return [
          warning('certificate', 'not looked at: the store was not opened', EXPECTED, 'See `unseal`; a running daemon tells the days in `selvedge status`.'),
        ];
      return watchedIn(result.store).map((watched) => findingOf(watched, clock.wall()));
    },
  };
}

function watchedIn(store: SealedStore): Watched[] {
  return store
    .keys()
    .filter((name) => name.endsWith(SUFFIX))
    .sort()
    .map((name) => {
      const der = store.get(name) ?? new Uint8Array();
      return { name: name.slice(0, -SUFFIX.length), der, renews_ms: name === ROOT ? null : renewAt_ms(lifetimeOf(der), 0.5) };
    });
}

function findingOf(watched: Watched, now_ms: number): Finding {
  const check = `certificate ${watched.name}`;
  const facts = certificateFacts(watched, now_ms);
  if (lifetimeOf(watched.der).notBefore_ms > now_ms)
    return fault(check, 'it is not valid yet', EXPECTED, 'It was issued moments ago by a clock that is ahead, or this clock is behind: see `clock`.');
  if (facts.warning_days === null) return ok(check, `${facts.days} days left`, EXPECTED);
  const remedy =
    watched.name === 'node/leaf' ? 'Make the tower reachable, then `selvedge renew`; one that ended needs `selvedge join` anew.' : 'See docs/certificates.md.';
  return (facts.warning_days === 0 ? fault : warning)(check, warningText(facts), EXPECTED, remedy);
}
