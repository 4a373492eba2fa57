/** How far a host is with draining, in words. */
import type { readDrain } from './answers.ts';
import { formatSeconds } from './output.ts';

/** One line for people; `status` has it, too. */
export function drainInWords({ state, flows, forced, left_ms }: ReturnType<typeof readDrain>): string {
  switch (state) {
    case 'draining':
      return `draining: ${flows} flows are left, ${formatSeconds((left_ms ?? 0) / 1_000)} until the deadline`;
    case 'drained':
      return `drained${forced === 0 ? '' : `: ${forced} flows were ended by force`}`;
    case 'overdue':
      return `overdue: ${flows} flows go on after the deadline; \`selvedge drain --deadline 0s --force\` ends them [peer_draining]`;
    default:
      return 'in service';
  }
}
