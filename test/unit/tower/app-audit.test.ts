/** The audit log names whoever changed an app network, however they came to the API. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ServiceTokens } from '../../../src/tower/access/service-tokens.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { type Ask, apiWorld, enrolledNode, redeemedOperator } from './api-world.ts';
import { makeTower } from './support.ts';

t.test('each change of an app network has its caller in the audit log: an operator, a session of one, a service', async (t) => {
  const path = join(freshDirectory(t), 'services');
  const service = `svk_${'a'.repeat(43)}`;
  writeFileSync(path, `console management ${service}\n`, { mode: 0o600 });
  const tower = await makeTower(t);
  const { ask } = await apiWorld(t, tower, { services: await ServiceTokens.open(path) });
  await enrolledNode(tower, 'till');
  const ada = await redeemedOperator(tower, 'ada');
  const bob = await redeemedOperator(tower, 'bob');
  const { token } = (await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials: bob })).body;
  const member = '/v1/app/networks/shop/members/till';
  const changes: Ask[] = [
    { method: 'POST', path: '/v1/app/networks', body: { name: 'shop', subnet4: '10.9.0.0/24' }, credentials: ada },
    { method: 'PUT', path: member, bearer: String(token) },
    { method: 'DELETE', path: member, bearer: service },
    { method: 'DELETE', path: '/v1/app/networks/shop', credentials: ada },
  ];
  for (const change of changes) t.match(await ask(change), { status: 200 }, `${change.method} ${change.path}`);
  const rows = (await tower.audit(0, 1_000)).filter(({ action }) => action.startsWith('app.'));
  t.strictSame(
    rows.map(({ actor, action }) => [actor, action]),
    [
      [`operator:${ada.id}`, 'app.create'],
      [`operator:${bob.id}`, 'app.add'],
      ['service:console', 'app.remove'],
      [`operator:${ada.id}`, 'app.delete'],
    ],
  );
});
