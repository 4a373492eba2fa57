/** The whole route table of the public port, walked: what is open is in the list, and everything else asks who is there. */
import t from 'tap';
import { registerControl } from '../../../src/node/control-routes.ts';
import { localAccess, type RouteScope } from '../../../src/api/access.ts';
import { makeApi } from '../../../src/api/http.ts';
import { openRoutes } from '../../../src/tower/access/open-routes.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import type { Mesh } from '../../../src/peering/mesh.ts';
import { MemoryNet } from '../services/memory-mesh.ts';
import { apiWorld, type Ask, enrolledNode, type Route } from './api-world.ts';
import { makeTower } from './support.ts';

t.setTimeout(120_000);

const nameOf = ({ method, url }: Route) => `${method} ${url}`;
/** A request that the route would take, as far as its path goes. */
const askOf = ({ method, url }: Route): Ask => ({ method, path: url.replace(/:\w+/g, '000000000000'), ...(method !== 'GET' && { body: {} }) });

async function world(t: Parameters<typeof makeTower>[0]) {
  const tower = await makeTower(t);
  const { open, handle } = new MemoryNet().mesh('tower');
  const mesh: Mesh = { open, handle, status: () => [], close: async () => {} };
  const control = { mesh, timers: systemTimers, facts: () => ({ role: 'tower' }) };
  return { tower, ...(await apiWorld(t, tower, { register: (routes) => registerControl(routes, control) })) };
}

t.test('the list of open routes names each of them, and nothing that is not there', async (t) => {
  const { routes } = await world(t);
  t.strictSame(
    routes
      .filter(({ scope }) => scope === undefined)
      .map(nameOf)
      .sort(),
    [...openRoutes].sort(),
  );
});

t.test('every other route answers 401 to whoever shows nothing, before its body is looked at', async (t) => {
  const { routes, ask } = await world(t);
  const guarded = routes.filter((route) => !openRoutes.has(nameOf(route)));
  t.ok(guarded.length >= 15, `${guarded.length} routes`);
  for (const route of guarded) t.match(await ask(askOf(route)), { status: 401, body: { code: 'unauthorized' } }, nameOf(route));
});

t.test('a route of scope management answers 403 to a node, which has scope client', async (t) => {
  const { tower, routes, ask } = await world(t);
  const credentials = await enrolledNode(tower, 'one');
  for (const route of routes.filter(({ scope }) => scope === 'management'))
    t.match(await ask({ ...askOf(route), credentials }), { status: 403, body: { code: 'scope_denied' } }, nameOf(route));
  t.match(await ask({ path: '/v1/openapi.json', credentials }), { status: 200, body: { openapi: '3.1.0' } });
});

t.test('a route that neither has a scope nor is in the list, or has both, keeps the API from starting', async (t) => {
  const start = (url: string, scope?: RouteScope) =>
    makeApi({ title: 'x', access: localAccess(openRoutes), routes: (api) => void api.get(url, scope ? { config: { scope } } : {}, async () => ({})) });
  await t.rejects(start('/v1/forgotten'), { cause: { message: /declares a scope/ } });
  await t.rejects(start('/v1/health', 'client'), { cause: { message: /has no scope/ } });
  await (await start('/v1/health')).close();
});
