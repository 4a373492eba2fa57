/** Whether this host's clock agrees with the tower's, and with its own past: certificates, tokens and snapshots are all judged by it. */
import { stat } from 'node:fs/promises';
import { remedyOf } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import { clockDifference_s } from '../tower-probe.ts';
import { type Check, type Finding, fault, ok, warning } from './finding.ts';

const EXPECTED = `within ${limits.doctor_clock_ms_warn / 1_000} s of the tower's`;

export interface ClockCheck {
  readonly clock: Pick<Clock, 'wall'>;
  /** Null: on the tower itself, whose clock is the cluster's. */
  readonly tower: Endpoint | null;
  /** Files that this host wrote: none of them was written in the future. */
  readonly files: readonly string[];
  readonly wait_ms: number;
}

export function clockCheck({ clock, tower, files, wait_ms }: ClockCheck): Check {
  return {
    name: 'clock',
    run: async () => {
      const past = await againstFiles(clock, files);
      if (tower === null) return [past ?? ok('clock', 'not behind the files that it wrote', 'a clock that only goes forward')];
      const difference_s = await clockDifference_s(tower, clock, wait_ms);
      const against = againstTower(difference_s);
      return past === null ? [against] : [against, past];
    },
  };
}

function againstTower(difference_s: number | null): Finding {
  if (difference_s === null)
    return warning('clock', 'unknown: the tower did not answer over HTTPS', EXPECTED, 'Make the tower reachable (see `reach tcp`), then look again.');
  const off_s = Math.abs(difference_s);
  if (off_s * 1_000 <= limits.doctor_clock_ms_warn) return ok('clock', off_s <= 1 ? 'the same, to a second' : `${off_s} s off`, EXPECTED);
  const found = `this host's clock is ${off_s} s ${difference_s > 0 ? 'behind' : 'ahead of'} the tower's`;
  const remedy = `${remedyOf('clock_skew', undefined)} Look at the tower's as well: the one of the two that is wrong is to be set.`;
  return (off_s * 1_000 > limits.clock_skew_ms_max ? fault : warning)('clock', found, EXPECTED, remedy);
}

/** A file from the future: the clock was set back, or was wrong when it was written. */
async function againstFiles(clock: Pick<Clock, 'wall'>, files: readonly string[]): Promise<Finding | null> {
  const times = await Promise.all(files.map(async (path) => ({ path, mtime_ms: (await stat(path).catch(() => null))?.mtimeMs ?? 0 })));
  const newest = times.toSorted((a, b) => b.mtime_ms - a.mtime_ms)[0];
  if (newest === undefined || newest.mtime_ms - clock.wall() <= limits.doctor_clock_ms_warn) return null;
  const found = `${newest.path} was written ${Math.round((newest.mtime_ms - clock.wall()) / 1_000)} s in the future`;
  return fault('clock', found, 'a clock that only goes forward', remedyOf('clock_skew', undefined));
}
