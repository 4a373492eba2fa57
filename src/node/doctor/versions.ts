/** Whether all parts are of one version: this program, the daemon, the tunnel, and the tower; and the Node that runs them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { PROGRAM_VERSION } from '../../api/program.ts';
import { type Check, type Finding, fault, ok, warning } from './finding.ts';

const NODE_MAJOR_MIN = 24;
const run = promisify(execFile);

/** What each part says; null: it could not be asked. */
export interface VersionsCheck {
  readonly daemon: string | null;
  readonly tunnelProgram: string;
  readonly tower: (signal: AbortSignal) => Promise<string | null>;
  readonly node: string;
}

export function versionsCheck({ daemon, tunnelProgram, tower, node }: VersionsCheck): Check {
  return {
    name: 'versions',
    run: async (signal) => {
      const [tunnel, theTower] = await Promise.all([tunnelVersion(tunnelProgram, signal), tower(signal).catch(() => null)]);
      const parts: [string, string | null][] = [
        ['selvedge', PROGRAM_VERSION],
        ['daemon', daemon],
        ['selvedge-tunnel', tunnel],
        ['tower', theTower],
      ];
      return [agreement(parts), nodeFinding(node)];
    },
  };
}

function agreement(parts: readonly (readonly [string, string | null])[]): Finding {
  const [told, expected] = [parts.flatMap(([part, version]) => (version === null ? [] : [`${part} ${version}`])).join(', '), 'one version in all parts'];
  const others = parts.filter(([, version]) => version !== null && version !== PROGRAM_VERSION);
  if (others.length === 0) return ok('versions', told, expected);
  const names = others.map(([part]) => part).join(' and ');
  return warning('versions', told, expected, `Restart or upgrade ${names}: a daemon goes on as what it was started as, whatever was installed since.`);
}

function nodeFinding(version: string): Finding {
  const expected = `Node ${NODE_MAJOR_MIN} or later`;
  if (Number(version.split('.')[0]) >= NODE_MAJOR_MIN) return ok('node', `Node ${version}`, expected);
  return fault('node', `Node ${version}`, expected, 'Start it as `npx selvedge`, which finds the Node that the packages bring.');
}

async function tunnelVersion(program: string, signal: AbortSignal): Promise<string | null> {
  const { stdout } = await run(program, ['version'], { signal, encoding: 'utf8', maxBuffer: 4_096 }).catch(() => ({ stdout: '' }));
  return /^selvedge-tunnel (\S+)$/m.exec(stdout)?.[1] ?? null;
}
