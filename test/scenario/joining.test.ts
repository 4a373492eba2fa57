/** The programs themselves from nothing to a node: with a store that the site's token seals from the first moment, and by a pre-flight that the daemon finishes by itself. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { programs } from './programs.ts';
import { freePort } from '../fixtures/free-port.ts';

t.setTimeout(180_000);
const directory = t.testdir({});
const at = (name: string): string => join(directory, name);
const { run, cli, kill, initTower } = programs(t);

const keyFile = ['--key-file', at('key')];
const fingerprint = await initTower(at('tower'), at('key'));
const port = await freePort();
const tower = run('tower', ['run', '--state', at('tower'), '--listen', '127.0.0.1', '--port', String(port), ...keyFile]);
await tower.until('tower runs');

async function towerFlags(name: string, ...more: string[]): Promise<string[]> {
  const { token } = await cli('token', 'create', '--uses', '1', '--state', at('tower'), ...more);
  await writeFile(at(`${name}.token`), String(token));
  return ['--tower', `127.0.0.1:${port}`, '--fingerprint', fingerprint, '--token-file', at(`${name}.token`), '--name', name, '--site', 'harbor'];
}

t.test('a node joins with a store that only the site opens, starts with its help, and no key of it is on the host', async (t) => {
  const flags = [...(await towerFlags('a')), '--state', at('a'), '--unseal', 'site'];
  // What stands in the way of a later step ends it there, as a kill would: the store is sealed by the site already, and nothing says yet that this is a node.
  await mkdir(join(at('a'), 'snapshot.json', 'x'), { recursive: true });
  await t.rejects(cli('join', ...flags));
  t.notOk(existsSync(join(at('a'), 'identity.json')));
  t.match(await cli('store', 'show', '--state', at('a')), { mode: 'site' });
  await rm(join(at('a'), 'snapshot.json'), { recursive: true });
  const joined = await cli('join', ...flags);
  t.ok(joined.node, 'the same again goes on, though the token had one use');
  t.notOk(existsSync(join(at('a'), 'joining.key')));
  const shown = await cli('store', 'show', '--state', at('a'));
  t.match(shown, { mode: 'site', generation: 1 });
  t.strictSame(shown.names, ['node/intermediate.crt', 'node/leaf.crt', 'node/leaf.key', 'node/trust-bundle', 'site/token.1']);
  await t.rejects(cli('join', ...flags), /already_enrolled/);

  const a = run('selvedged', ['--state', at('a')]);
  t.match(await a.until('the store is unsealed'), { unsealed_by: 'tower' });
  await a.until('node runs');
  await tower.until('channel accepted');
  t.match(await cli('node', 'show', 'a', '--state', at('tower')), { connected: true });
  await kill(a);
  await cli('node', 'disable', String(joined.node), '--state', at('tower'));
  const disabled = run('selvedged', ['--state', at('a')]);
  t.match(await disabled.until('no key for the store'), { by: 'tower', code: 'peer_disabled' });
  await cli('node', 'enable', String(joined.node), '--state', at('tower'));
  await disabled.until('node runs');
  await kill(disabled);
  await cli('node', 'revoke', String(joined.node), '--state', at('tower'));
  const revoked = run('selvedged', ['--state', at('a')]);
  t.equal(await revoked.ended, 1);
  t.match(revoked.said, /certificate_revoked/, 'and a thief of the host opens nothing');
});

t.test('a key of its own and the token of the site are not both', async (t) => {
  await t.rejects(cli('join', ...(await towerFlags('b')), '--state', at('b'), '--unseal', 'site', ...keyFile), /argument_invalid/);
  t.notOk(existsSync(at('b')));
});

for (const mode of ['key-file', 'site'] as const) {
  t.test(`the daemon finishes a pre-flight at its first start, sealed by ${mode}, and is a node at the next without it`, async (t) => {
    const [state, seal] = [at(`pre-${mode}`), mode === 'site' ? ['--unseal', 'site'] : keyFile];
    const file = join(state, 'call-home.json');
    const prepared = await cli('preflight', ...(await towerFlags(`pre-${mode}`, '--purpose', 'preflight')), '--out', file);
    const first = run('selvedged', ['--state', state, ...seal]);
    t.match(await first.until('node runs'), { node: prepared.node, name: `pre-${mode}`, site: 'harbor' });
    t.notOk(existsSync(file), 'the certificate for calling home is gone');
    const { channels } = (await cli('status', '--state', state)) as { channels: { name: string }[] };
    t.ok(Array.isArray(channels));
    await kill(first);
    t.match(JSON.parse(await readFile(join(state, 'identity.json'), 'utf8')), { node: prepared.node });
    t.match(await cli('store', 'show', '--state', state, ...(mode === 'site' ? [] : keyFile)), { mode });
    const second = run('selvedged', ['--state', state, ...(mode === 'site' ? [] : keyFile)]);
    await second.until('node runs');
    await kill(second);
  });
}
