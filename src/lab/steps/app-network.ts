/** `app_network`: namespaces on two hosts and on one whose network drops UDP share an app network; a server in one serves the others; a host that is no member gets nowhere. */
import { join } from 'node:path';
import { Type } from 'typebox';
import { nameOf } from '../schema.ts';
import { APP_HTTP_PORT, APP_NETWORK, AppLab, type Place } from '../app-lab.ts';
import { round } from '../units.ts';
import { tryToGetIn } from './app-outsider.ts';
import { defineStep, judge, type World } from './step.ts';
import { makeFile, sha256File } from './transfer.ts';

const parameters = Type.Object(
  {
    server: Type.Optional(nameOf('node', 'a node, where the server and one client are')),
    near: Type.Optional(nameOf('node', 'a node that reaches it directly')),
    far: Type.Optional(nameOf('node', 'a node whose network drops UDP')),
    outsider: Type.Optional(nameOf('node', 'a node that is no member')),
    file_mib: Type.Optional(Type.Integer({ minimum: 1, maximum: 4096, description: 'MiB, 1 to 4096' })),
    within_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds that one download may take, 1 to 600' })),
  },
  { additionalProperties: false, description: 'server, near, far, outsider, file_mib, within_s' },
);

const SUBNET = '10.9.0.0/24';
/** The network that the outsider shares with the server's host. */
const OTHER = { name: 'stock', subnet: '10.10.0.0/24' } as const;
const READY_MS = 20_000;

export const appNetwork = defineStep(
  'app_network',
  'namespaces on three nodes share an app network; one serves the others; who is no member gets nowhere',
  parameters,
  async (world, given) => {
    const { server: serverHost = 'a', near = 'b', far = 'c', outsider = 'd', file_mib = 256, within_s = 120 } = given;
    const app = AppLab.of(world);
    await world.fleet().admit(outsider);
    await app.createNetwork(APP_NETWORK, SUBNET, [serverHost, near, far]);
    await app.createNetwork(OTHER.name, OTHER.subnet, [serverHost, outsider]);
    for (const host of [serverHost, near, far]) await app.joined(host, APP_NETWORK, READY_MS);
    await app.joined(outsider, OTHER.name, READY_MS);
    const server = await app.connect(serverHost, 'web');
    const clients = [await app.connect(serverHost, `till-${serverHost}`), await app.connect(near, `till-${near}`), await app.connect(far, `till-${far}`)];
    world.say(`${[server, ...clients].map(({ name, host, address }) => `${name} on ${host} is ${address}`).join(', ')}`);

    const file = join(world.lab.directory, 'catalogue.bin');
    await makeFile(file, file_mib * 1024 * 1024);
    const expected = await sha256File(file);
    const heard = await app.serve(server, file);
    const http_mbit: Record<string, number> = {};
    const incomplete: string[] = [];
    for (const client of clients) {
      const { mbit, why } = await download(world, app, client, server, within_s, expected);
      http_mbit[client.name] = round(mbit);
      if (why !== null) incomplete.push(`${client.name}: ${why}`);
      world.say(`${client.name}: ${why ?? `the file as it was sent, at ${round(mbit)} Mbit/s`}`);
    }
    const sha256_equal = incomplete.length === 0;
    const paths = Object.fromEntries(
      ((await app.factsOf(serverHost))?.peers ?? [])
        .filter(({ name }) => name === near || name === far)
        .map(({ name, path, why }) => [name, why === '' ? path : `${path} (${why})`]),
    );
    const outcome = await tryToGetIn(world, app, { server, serverHost, member: app.place(`till-${near}`), outsider, heard, otherNetwork: OTHER.name });
    const isolated = outcome.got.length === 0;
    return judge({ http_mbit, sha256_equal, isolated, paths, tried: outcome.tried, refused: outcome.refused }, [
      ...incomplete.map((what) => [`the file arrives as it was sent: ${what}`, false] as const),
      ...outcome.got.map((what) => [`the outsider gets nowhere: ${what}`, false] as const),
      [`${far} is reached through channels`, paths[far]?.startsWith('carried') === true],
      [`${near} is reached directly`, paths[near]?.startsWith('direct') === true],
    ]);
  },
);

/** `why` is null if the file arrived as it was sent. */
async function download(
  world: World,
  app: AppLab,
  client: Place,
  server: Place,
  within_s: number,
  expected: string,
): Promise<{ mbit: number; why: string | null }> {
  let result: Readonly<Record<string, unknown>> = {};
  const run = app.run(client.name, ['fetch', `http://${server.address}:${APP_HTTP_PORT}/file`], (facts) => {
    result = facts;
  });
  const timer = setTimeout(() => run.kill('SIGKILL'), within_s * 1000);
  const end = await run.ended;
  clearTimeout(timer);
  world.signal.throwIfAborted();
  if (end.code !== 0) return { mbit: 0, why: end.signal === null ? run.lastError : `not done within ${within_s} s` };
  const mbit = (Number(result.bytes) * 8) / 1000 / Number(result.ms);
  return { mbit, why: result.sha256 === expected ? null : `other bytes: sha256 ${String(result.sha256)}` };
}
