/** What a caller of scope client discovers of services over the public port: its own, page by page, and no word of any other. */
import t, { type Test } from 'tap';
import type { Tower } from '../../../src/tower/tower.ts';
import { type Ask, apiWorld, enrolledNode, redeemedOperator } from './api-world.ts';
import { makeTower } from './support.ts';

t.setTimeout(60_000);

const target = { host: '127.0.0.1', port: 5_432 };

async function make(tower: Tower, name: string, host: string): Promise<void> {
  await tower.resources.create('service', name, { target, hosts: { nodes: [host] } }, 'local');
}

async function allow(tower: Tower, name: string, from: string, to: string, services: readonly string[], effect: 'allow' | 'deny' = 'allow'): Promise<void> {
  await tower.resources.create('policy', name, { from: { nodes: [from] }, to: { nodes: [to] }, services: [...services], effect }, 'local');
}

/** `till` may dial what `back` hosts; `guest` is at the same site, and nobody allows it anything. */
async function world(t: Test) {
  const tower = await makeTower(t);
  const [till, back, guest] = [await enrolledNode(tower, 'till'), await enrolledNode(tower, 'back'), await enrolledNode(tower, 'guest')];
  for (const name of ['stock', 'prices', 'ledger', 'secret']) await make(tower, name, back.id);
  await make(tower, 'scanner', till.id);
  await allow(tower, 'tills', till.id, back.id, ['stock', 'prices', 'ledger']);
  await allow(tower, 'no-secret', till.id, back.id, ['secret'], 'deny');
  return { tower, till, back, guest, ...(await apiWorld(t, tower)) };
}

t.test('a node discovers the services that it may dial or hosts, and no other', async (t) => {
  const { ask, till, back, guest } = await world(t);
  const path = '/v1/client/services';
  t.strictSame((await ask({ path, credentials: till })).body, {
    items: [
      { name: 'ledger', protocol: 'tcp', hosted: false },
      { name: 'prices', protocol: 'tcp', hosted: false },
      { name: 'scanner', protocol: 'tcp', hosted: true },
      { name: 'stock', protocol: 'tcp', hosted: false },
    ],
    next: null,
  });
  const hosted = (await ask({ path, credentials: back })).body as unknown as { items: { name: string; hosted: boolean }[] };
  t.strictSame(
    hosted.items.map(({ name, hosted: own }) => [name, own]),
    ['ledger', 'prices', 'secret', 'stock'].map((name) => [name, true]),
  );
  t.strictSame((await ask({ path, credentials: guest })).body, { items: [], next: null });
});

t.test('they come in pages like every other list', async (t) => {
  const { ask, till } = await world(t);
  const names: string[] = [];
  let after: string | null = null;
  do {
    const asked: Ask = { path: `/v1/client/services?limit=1${after === null ? '' : `&after=${after}`}`, credentials: till };
    const { items, next } = (await ask(asked)).body as unknown as { items: { name: string }[]; next: string | null };
    names.push(...items.map(({ name }) => name));
    after = next;
  } while (after !== null);
  t.strictSame(names, ['ledger', 'prices', 'scanner', 'stock']);
  t.match(await ask({ path: '/v1/client/services?limit=100000', credentials: till }), { status: 400, body: { code: 'request_invalid' } });
});

t.test('a session sees what its node sees; who is no node, or lacks the scope, nothing; who is revoked is refused', async (t) => {
  const { ask, tower, till } = await world(t);
  const path = '/v1/client/services';
  const begun = await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials: till });
  const bearer = String(begun.body.token);
  t.equal(((await ask({ path, bearer })).body.items as unknown[]).length, 4);
  const operator = await redeemedOperator(tower, 'ada');
  t.strictSame((await ask({ path, credentials: operator })).body, { items: [], next: null });
  const manager = await redeemedOperator(tower, 'bob', ['management']);
  t.match(await ask({ path, credentials: manager }), { status: 403, body: { code: 'scope_denied' } });
  await tower.resources.delete('policy', 'tills', null, 'local');
  t.equal(((await ask({ path, bearer })).body.items as unknown[]).length, 1, 'from the next answer on');
  await tower.revokeNode(till.id);
  t.match(await ask({ path, bearer }), { status: 401 });
});
