/** `selvedge store`: what a sealed store says of itself, and sealing it in another way. Works on the files of a daemon that does not run; never shows a value. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { refuseIfInUse } from '../../src/api/local-socket.ts';
import { asSelvedgeError, SelvedgeError } from '../../src/base/errors.ts';
import type { UnsealKey, UnsealSource } from '../../src/identity/unseal.ts';
import { DEFAULT_NODE_STATE, descriptor } from './arguments.ts';
import { printJson, printLine } from './output.ts';

const MODES = ['key-file', 'passphrase', 'credential', 'site'] as const;
type ModeName = (typeof MODES)[number];

/** For so long tower and site are asked for the key of a store that is sealed with the site's token. */
const SHOW_MS_MAX = 5_000;
const RESEAL_MS_MAX = 30_000;

interface StoreFlags extends UnsealSource {
  readonly state: string;
  readonly json?: boolean;
}

interface ResealFlags extends StoreFlags {
  readonly to: ModeName;
  readonly newKeyFile?: string;
  readonly newPassphraseFile?: string;
  readonly newPassphraseFd?: number;
}

export function storeCommand(): Command {
  const command = new Command('store')
    .description("this host's sealed store: what is in it, and how it is sealed")
    .addHelpText(
      'after',
      '\nExamples:\n  selvedge store show\n  selvedge store reseal --to site\n\ndocs/sealed-store.md tells the ways of sealing, and the threats that each stops.',
    );
  withStore(command.command('show').description('mode, format, generation, and the names of the secrets; never a value'))
    .addHelpText('after', '\nExamples:\n  selvedge store show\n  selvedge store show --state /var/lib/selvedge/tower --json')
    .action(show);
  withStore(command.command('reseal').description('seal the store in another way, in one step; its daemon must not run'))
    .addOption(new Option('--to <mode>', 'the way from now on').choices(MODES).makeOptionMandatory())
    .option('--new-key-file <file>', 'with --to key-file: made if it is missing; with --to credential: the key that systemd was given')
    .option('--new-passphrase-file <file>', 'with --to passphrase; without it, and without a descriptor, the passphrase is asked for')
    .option('--new-passphrase-fd <number>', 'with --to passphrase: a descriptor that is read to its end', descriptor)
    .addHelpText(
      'after',
      '\nExamples:\n  selvedge store reseal --to site\n  selvedge store reseal --to passphrase --new-passphrase-file /run/secrets/new\n  selvedge store reseal --to key-file --new-key-file /mnt/usb/unseal.key',
    )
    .action(reseal);
  return command;
}

function withStore(command: Command): Command {
  return command
    .option('--state <dir>', 'state directory of the node or tower', DEFAULT_NODE_STATE)
    .option('--key-file <file>', 'key file that unseals the store now')
    .option('--passphrase-file <file>', 'file with the passphrase of now', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with the passphrase of now', descriptor)
    .option('--json', 'print JSON');
}

async function show(flags: StoreFlags): Promise<void> {
  const { SealedStore } = await import('../../src/identity/sealed-store.ts');
  const path = storePath(flags.state);
  const { mode, format, key } = await SealedStore.head(path);
  const opened = await openNow(flags, SHOW_MS_MAX).catch((error: unknown) => asSelvedgeError(error, 'store_locked', { path }));
  const names = opened instanceof SelvedgeError ? null : opened.store.keys().sort();
  if (!(opened instanceof SelvedgeError)) await opened.store.close();
  const why = opened instanceof SelvedgeError ? opened.message : null;
  const facts = { path, mode: mode.name, format, generation: key.generation, names, why };
  if (flags.json) return printJson(facts);
  printLine(`${path}\nsealed with ${mode.what}${key.generation === 0 ? '' : `, generation ${key.generation}`}; format ${format}`);
  if (names === null) printLine(`what is in it is not shown: ${why}`);
  else for (const name of names) printLine(`  ${name}`);
}

async function reseal(flags: ResealFlags): Promise<void> {
  const state = resolve(flags.state);
  for (const socket of ['selvedged.sock', 'tower.sock']) await refuseIfInUse(join(state, socket));
  const { store } = await openNow(flags, RESEAL_MS_MAX);
  const before = store.mode.name;
  try {
    await store.reseal(await newKey(flags, store));
  } finally {
    await store.close();
  }
  if (flags.json) printJson({ path: store.path, before, mode: flags.to, generation: store.generation });
  else printLine(`${store.path} is sealed with mode ${flags.to} now, not ${before}; start its daemon ${hintOf(flags)}`);
}

async function openNow({ state, ...source }: StoreFlags, ms_max: number) {
  const [{ startKey }, { SealedStore }] = await Promise.all([import('../../src/node/start-key.ts'), import('../../src/identity/sealed-store.ts')]);
  const signal = AbortSignal.timeout(ms_max);
  const key = await startKey({ state: resolve(state), source, signal, log: () => undefined }).catch((error: unknown) => {
    throw signal.aborted ? new SelvedgeError('timeout', { what: 'asking tower and site for the key', ms: ms_max }) : error;
  });
  return { store: await SealedStore.peek(storePath(state), key) };
}

async function newKey({ to, state, newKeyFile, newPassphraseFile, newPassphraseFd }: ResealFlags, store: Parameters<typeof siteKeyOf>[0]): Promise<UnsealKey> {
  if (to === 'site') return await siteKeyOf(store, resolve(state));
  const { loadOrCreateUnsealKey, loadUnsealKey } = await import('../../src/identity/unseal.ts');
  if (to === 'key-file') return await loadOrCreateUnsealKey({ ...(newKeyFile !== undefined && { keyFile: newKeyFile }) });
  if (to === 'credential') {
    const key = await loadUnsealKey(newKeyFile === undefined ? {} : { keyFile: newKeyFile }, 'credential');
    return key.kind === 'key' ? { kind: 'credential', key: key.key } : key;
  }
  const source = {
    ...(newPassphraseFile !== undefined && { passphraseFile: newPassphraseFile }),
    ...(newPassphraseFd !== undefined && { passphraseFd: newPassphraseFd }),
  };
  return await loadUnsealKey(source, 'passphrase');
}

/** Only where the host could then start: with a boot identity, and the token in the store itself. */
async function siteKeyOf(store: Awaited<ReturnType<typeof openNow>>['store'], state: string): Promise<UnsealKey> {
  const [{ BootFile, BOOT_FILE }, { SiteTokenShelf }, { siteUnsealKey }] = await Promise.all([
    import('../../src/enroll/boot-file.ts'),
    import('../../src/enroll/site-shelf.ts'),
    import('../../src/identity/unseal/site.ts'),
  ]);
  const boot = await BootFile.read(state);
  if (boot === null || boot.credentials === null) throw new SelvedgeError('boot_identity_missing', { path: join(state, BOOT_FILE) });
  const shelf = new SiteTokenShelf(store);
  const token = shelf.get(shelf.newest);
  if (token === null) throw new SelvedgeError('site_token_missing', { site: boot.who.site });
  return siteUnsealKey(token, boot.who.node);
}

function storePath(state: string): string {
  return join(resolve(state), 'sealed.bin');
}

function hintOf({ to, state, newKeyFile, newPassphraseFile }: ResealFlags): string {
  if (to === 'key-file' && newKeyFile !== undefined) return `with --key-file ${newKeyFile}`;
  if (to === 'passphrase') return newPassphraseFile === undefined ? 'on a terminal, or with --passphrase-file' : `with --passphrase-file ${newPassphraseFile}`;
  if (to === 'credential') return 'by systemd, with the credential selvedge-unseal';
  return existsSync(join(resolve(state), 'tower.json')) ? 'as before' : 'without --key-file and --passphrase-file';
}
