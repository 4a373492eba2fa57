/** The topologies that come with Selvedge. */
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stepSchemas } from './steps/registry.ts';
import { loadTopology } from './topology.ts';

const DIRECTORY = fileURLToPath(new URL('../../configs/lab', import.meta.url));

export interface LabEntry {
  readonly name: string;
  readonly about: string;
  readonly file: string;
  readonly steps: readonly string[];
}

export async function listLabs(): Promise<LabEntry[]> {
  const names = (await readdir(DIRECTORY)).filter((name) => name.endsWith('.yaml')).sort();
  return Promise.all(
    names.map(async (name) => {
      const topology = await loadTopology(join(DIRECTORY, name), stepSchemas);
      return { name: topology.name, about: topology.about, file: topology.file, steps: topology.steps.map((step) => step.name) };
    }),
  );
}

/** `file` itself if it is there, else the one of that name. */
export async function findTopology(file: string): Promise<string> {
  const own = join(DIRECTORY, `${file}.yaml`);
  const there = (path: string) =>
    access(path).then(
      () => true,
      () => false,
    );
  return !(await there(file)) && /^[a-z0-9-]+$/.test(file) && (await there(own)) ? own : file;
}
