/** The tower: `tower init` makes a cluster, `tower run` serves it. Reads the command line, wires, runs; no logic. */
import { createHmac } from 'node:crypto';
import { join } from 'node:path';
import { Command } from 'commander';
import { management } from '../../src/api/access.ts';
import type { Api } from '../../src/api/http.ts';
import { programFacts } from '../../src/api/program.ts';
import { refuseIfInUse } from '../../src/api/local-socket.ts';
import { asSelvedgeError, SelvedgeError } from '../../src/base/errors.ts';
import { TOWER_ID, TOWER_SITE, toHex } from '../../src/base/ids.ts';
import { type PlatformSettings, platformProofs } from '../../src/enroll/platform/settings.ts';
import { JwtIssuer } from '../../src/identity/jwt.ts';
import { lifetimeOf } from '../../src/identity/lifetime.ts';
import { loadStoreKey } from '../../src/identity/store-key.ts';
import { DEFAULT_KEY_FILE, loadOrCreateUnsealKey, type UnsealKey, type UnsealSource } from '../../src/identity/unseal.ts';
import { registerControl, registerSend } from '../../src/node/control-routes.ts';
import { registerObserved } from '../../src/node/observe-routes.ts';
import type { Observatory } from '../../src/observe/observatory.ts';
import { type Explainer, registerExplain } from '../../src/node/policy-route.ts';
import { RulesFollower } from '../../src/tower/rules-follower.ts';
import { TowerPolicy } from '../../src/tower/tower-policy.ts';
import { Host } from '../../src/peering/host.ts';
import type { PeerMesh } from '../../src/peering/peer-mesh.ts';
import { serveEcho } from '../../src/services/echo.ts';
import { serveFiles } from '../../src/services/file-receive.ts';
import { keepSecrets } from '../../src/native.ts';
import { Logins } from '../../src/tower/access/logins.ts';
import { ServiceTokens } from '../../src/tower/access/service-tokens.ts';
import { adminApi, publicApi } from '../../src/tower/api.ts';
import { CertificateKeeper } from '../../src/tower/renewing/certificate-keeper.ts';
import { serveApp } from '../../src/tower/app/fabric.ts';
import { keepAuditHead } from '../../src/tower/audit/keeper.ts';
import { serveCarry } from '../../src/tower/app/carry.ts';
import { keepRevocations } from '../../src/tower/leaving.ts';
import { serveRenewals } from '../../src/tower/renewing/fabric.ts';
import { followRetirement } from '../../src/tower/trust/fabric.ts';
import { registerHealth } from '../../src/tower/health-api.ts';
import { HealthReports } from '../../src/tower/health-reports.ts';
import { serveSnapshots } from '../../src/tower/fabric.ts';
import { serveSite } from '../../src/tower/unseal/site-service.ts';
import { checkMade, DEFAULT_VTEP_RANGE, initTower, openTower } from '../../src/tower/init.ts';
import { restoreTower } from '../../src/tower/backup/restore.ts';
import type { Touched, Tower } from '../../src/tower/tower.ts';
import { systemClock, systemRandom, systemTimers } from '../../src/transport/system.ts';
import { backup } from '../cli/backup.ts';
import { descriptor } from '../cli/arguments.ts';
import {
  type AdmissionConfig,
  admissionRate,
  applyConfig,
  type DrainConfig,
  drainSettings,
  type LoginConfig,
  type MetricsConfig,
  TowerConfig,
} from '../config.ts';
import { makeObservatory, observe } from '../observe.ts';
import { openServerCertificate, type ServerCertificateFlags, withServerCertificate } from '../server-certificate.ts';
import { Closers, endSoon, type Log, makeLog, parsePort, untilStopped } from '../run.ts';

const DEFAULT_STATE = '/var/lib/selvedge/tower';
const DEFAULT_PORT = 443;

interface InitFlags extends UnsealSource {
  readonly cluster: string;
  readonly state: string;
  readonly vtepRange?: string;
  readonly rootSigner?: string;
  readonly signer?: string;
  readonly json?: boolean;
}

interface RestoreFlags extends UnsealSource {
  readonly state: string;
  readonly json?: boolean;
}

interface RunFlags extends UnsealSource, ServerCertificateFlags {
  readonly state: string;
  readonly listen: string;
  readonly port: number;
  readonly udpPort?: number;
  readonly advertise?: string[];
  readonly governor: boolean;
  readonly serviceTokens?: string;
  /** Of the configuration file alone. */
  readonly drain?: DrainConfig;
  readonly admission?: AdmissionConfig;
  /** Of the configuration file alone. */
  readonly metrics?: MetricsConfig;
  /** Of the configuration file alone. */
  readonly logins?: readonly LoginConfig[];
  /** From the configuration file alone. */
  readonly platforms?: PlatformSettings;
}

async function init({ cluster, state, vtepRange, rootSigner, signer, json, ...source }: InitFlags): Promise<void> {
  const unseal = await loadOrCreateUnsealKey(source);
  const made = await initTower({
    state,
    cluster,
    unseal,
    endpoints: [],
    ...(vtepRange !== undefined && { vtepRange }),
    ...(rootSigner !== undefined && { rootSigner }),
    ...(signer !== undefined && { intermediateSigner: signer }),
    clock: systemClock,
    random: systemRandom,
  });
  if (json) process.stdout.write(`${JSON.stringify({ ...made, state })}\n`);
  else process.stdout.write(`cluster ${made.cluster} made in ${state}\nroot fingerprint (nodes pin it when they join):\n  ${made.fingerprint}\n`);
}

async function restore(file: string, { state, json, ...source }: RestoreFlags): Promise<void> {
  const restored = await restoreTower({ file, state, unseal: (directory) => towerKey(directory, source), clock: systemClock });
  const { cluster, at_ms, restored_version } = restored;
  if (json) process.stdout.write(`${JSON.stringify({ cluster, at_ms, version: restored_version, state })}\n`);
  else
    process.stdout.write(
      `cluster ${cluster} is restored in ${state}, as it was at ${new Date(at_ms).toISOString()}\nwhat was revoked after that is valid again: see docs/operations.md before you start it\n`,
    );
}

async function run(flags: RunFlags): Promise<void> {
  keepSecrets();
  const closers = new Closers();
  const seen = makeObservatory();
  const log = seen.listen(makeLog());
  // From the first moment: what was opened so far is closed in any case.
  const stopped = untilStopped();
  try {
    const { tower, mesh } = await start(flags, closers, log, seen);
    log('tower runs', { cluster: tower.cluster, fingerprint: `sha256:${toHex(tower.rootFingerprint)}`, listen: flags.listen, port: flags.port });
    const signal = await stopped;
    log('tower stops', { signal });
    await mesh.drain({ deadline_ms: drainSettings(flags.drain).stop_ms, force: true });
  } finally {
    endSoon(log);
    await closers.close();
  }
}

async function start(flags: RunFlags, closers: Closers, log: Log, seen: Observatory): Promise<{ tower: Tower; mesh: PeerMesh }> {
  const { state, listen, port, udpPort = port, advertise, governor, serviceTokens, logins = [], platforms = {}, drain, metrics, admission, ...source } = flags;
  // Before its key: where no cluster was made, neither is there, and `init` makes both.
  await checkMade(state);
  const unseal = await towerKey(state, source);
  const socket = join(state, 'tower.sock');
  await refuseIfInUse(socket);
  const hosts = advertise ?? (isAny(listen) ? [] : [listen]);
  const endpoints = hosts.map((host) => ({ host, tcp: port, udp: udpPort }));
  const proofs = await platformProofs(platforms, systemClock);
  const tower = await openTower({ state, unseal, proofs, ...(endpoints.length > 0 && { endpoints }), clock: systemClock, random: systemRandom });
  closers.add(() => tower.close());
  // Connections that come before the API is made wait for it; the host ends them if it never is.
  const api = Promise.withResolvers<Api>();
  const server = await openServerCertificate(flags, log);
  closers.add(() => server?.close());
  const names = await followNames(tower);
  const policy = await TowerPolicy.open(tower);
  const versions = () => ({ directory: 0, trust: tower.trust.version });
  const host = await Host.start({
    self: { cluster: tower.cluster, site: TOWER_SITE, node: TOWER_ID },
    credentials: () => tower.credentials,
    roots: () => tower.roots,
    liveRoots: () => tower.trust.liveRoots,
    recordedFingerprint: tower.recordedFingerprint,
    policy: policy.judge,
    knownPast: () => ({ name: "the tower's certificate", at_ms: lifetimeOf(tower.credentials.chain[0]).notBefore_ms }),
    versions,
    nameOf: (node) => names.get(node) ?? node,
    listen: { host: listen, tcpPort: port, udpPort },
    onPeer: ({ identity, fingerprint }) =>
      void tower.renewals
        .seen(identity, fingerprint)
        .catch((error: unknown) => log('renewed certificate not recorded', { node: identity.node, reason: String(error) })),
    server,
    onHttp: (socket) => void api.promise.then(({ server }) => server.emit('connection', socket)),
    statelessResetKey: resetKey(tower),
    isGoverned: governor,
    children: () => names.size,
    admission: admissionRate(admission),
    log,
    observer: seen,
    onChange: () => undefined,
  });
  closers.add(() => host.close());
  const reports = new HealthReports(host.mesh, systemTimers, (error, node) =>
    log('health report not taken', { node, code: error.code, reason: error.message }),
  );
  closers.add(() => reports.close());
  closers.add(
    tower.onRevoked((node) => {
      log('node revoked', { node });
      reports.forget(node);
      policy.nodesChanged();
      host.mesh.revalidate((peer) => peer.node === node);
    }),
  );
  closers.add(followRetirement(tower, host, systemTimers, (trust) => log('root retired: channels move over', { trust })));
  const carry = serveCarry({
    mesh: host.mesh,
    timers: systemTimers,
    log,
    checkPartners: (from, to) => tower.app.checkPartners(from, to),
    checkRules: (from, to) => policy.checkCarried(from, to),
  });
  closers.add(() => carry.close());
  const rules = new RulesFollower<Touched>({
    timers: systemTimers,
    random: systemRandom,
    refresh: () => policy.refresh(),
    onFresh: (changes) => {
      host.mesh.revalidate(
        (peer) => changes?.some(({ everybody = false, site, nodes }) => everybody || peer.site === site || nodes.includes(peer.node)) ?? true,
      );
      carry.changed(changes);
    },
    onFailure: (error) => log('rules could not be read', { reason: String(error) }),
  });
  closers.add(() => rules.close());
  tower.onChange((change) => rules.changed(change));
  serveEcho(host.mesh);
  const inbox = await serveFiles(host.mesh, { inbox: join(state, 'inbox'), timers: systemTimers });
  closers.add(() => inbox.close());
  const snapshots = serveSnapshots(host.mesh, tower, systemTimers, (error, node) =>
    log('snapshot flow ended', { node, code: error.code, reason: error.message }),
  );
  closers.add(() => snapshots.close());
  const renewals = serveRenewals(host.mesh, tower.renewals, systemTimers, (error, node) =>
    log('certificate not renewed', { node, code: error.code, reason: error.message }),
  );
  closers.add(() => renewals.close());
  const revocations = keepRevocations(tower, systemTimers, (node, error) =>
    log(error === null ? 'node revoked: its time to finish is over' : 'node not revoked', { node, ...(error !== null && { reason: String(error) }) }),
  );
  closers.add(() => revocations.close());
  const site = serveSite(host.mesh, tower.unsealing, systemTimers, (error, node) => log('site flow ended', { node, code: error.code, reason: error.message }));
  closers.add(() => site.close());
  const app = serveApp(host.mesh, tower.app, systemTimers, (error, node) =>
    log('request of an app network failed', { node, code: error.code, reason: error.message }),
  );
  closers.add(() => app.close());

  const keeper = new CertificateKeeper({ tower, timers: systemTimers, onRenewed: () => void host.renewed(), others: () => server?.watched ?? [], log });
  keeper.start();
  closers.add(() => keeper.close());
  const observed = await observe(seen, host.mesh, { versions, certificateEnds_ms: () => lifetimeOf(tower.credentials.chain[0]).notAfter_ms }, metrics, closers);
  const program = programFacts({ host: listen, tcp: port, udp: udpPort });
  const facts = () => ({ role: 'tower', cluster: tower.cluster, certificate_warning: keeper.warning, ...program });
  const control = { mesh: host.mesh, timers: systemTimers, facts, drain: { host: host.mesh, settings: drainSettings(drain) } };
  const explainer: Explainer = (from, to, asked) => policy.explain(from, to, asked);
  const reaches = (node: string) => host.mesh.reaches(node);
  const open = await publicApi(tower, {
    clock: systemClock,
    onFailure: (error, path) => {
      const { code, message } = asSelvedgeError(error, 'internal_error', { what: path });
      log('request refused or failed', { path, code, reason: message });
    },
    logins: await openLogins(logins),
    ...(serviceTokens !== undefined && { services: await ServiceTokens.open(serviceTokens) }),
    reaches,
    register: (routes) => {
      registerControl(routes, control);
      registerExplain(routes, explainer);
      registerHealth(routes, tower, reports);
    },
  });
  closers.add(() => open.close());
  api.resolve(open);
  const auditKeeper = keepAuditHead(tower, systemTimers, (error) =>
    log('head of the audit log not signed', { reason: error instanceof Error ? error.message : String(error) }),
  );
  closers.add(() => auditKeeper.close());

  const admin = await adminApi(tower, socket, {
    reaches,
    register: (routes) => {
      registerControl(routes, control);
      registerExplain(routes, explainer);
      registerObserved(routes, observed);
      registerHealth(routes, tower, reports);
      routes.post('/v1/renew', management, () => keeper.renewNow());
      registerSend(routes, control);
    },
  });
  closers.add(() => admin.close());
  return { tower, mesh: host.mesh };
}

/** With their keys read, so that a wrong configuration is told at the start. */
async function openLogins(configured: readonly LoginConfig[]): Promise<Logins> {
  const logins = configured.map(({ name, issuer, audience, keys_file, algorithms = ['ES256', 'RS256'], scopes, tenant, subjects }) => {
    // Many that log people in say no `nbf`.
    const verifier = new JwtIssuer({ issuer, algorithms, keys: { file: keys_file }, clock: systemClock, without_not_before: true });
    return { name, verifier, audience, scopes, ...(tenant !== undefined && { tenant }), ...(subjects !== undefined && { subjects }) };
  });
  for (const { verifier } of logins) await verifier.load();
  return new Logins(logins);
}

/** Names of nodes by id, kept as the tower changes. */
async function followNames(tower: Tower): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>();
  const read = async (): Promise<void> => {
    for (const { id, name } of await tower.nodes()) names.set(id, name);
  };
  tower.onChange(() => void read().catch(() => undefined));
  await read();
  return names;
}

/** With it a restarted tower can tell its nodes at once that their old QUIC connections are gone (RFC 9000, section 10.3.2). */
function resetKey(tower: Tower): Uint8Array {
  return new Uint8Array(createHmac('sha256', tower.credentials.key).update('stateless reset').digest());
}

async function towerKey(state: string, source: UnsealSource): Promise<UnsealKey> {
  const path = join(state, 'sealed.bin');
  const key = await loadStoreKey(path, source);
  if (key === null) throw new SelvedgeError('store_locked', { path, why: 'it is sealed with the token of a site, and a tower has none' });
  return key;
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** `verb`: what the key does to the store. The default stands in the text alone, since a passphrase file takes its place. */
function withUnseal(command: Command, verb: string): Command {
  return command
    .option('--state <dir>', 'state directory', DEFAULT_STATE)
    .option('--key-file <file>', `key file that ${verb} (default: ${DEFAULT_KEY_FILE})`)
    .option('--passphrase-file <file>', 'file with a passphrase instead', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with a passphrase', descriptor);
}

const initExamples = `
Examples:
  selvedge tower init --cluster edge --state /var/lib/selvedge/tower
  selvedge tower init --cluster edge --root-signer kms:alias/edge-root
  selvedge tower init --cluster edge --root-signer 'pkcs11:token=edge;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/selvedge/pin'`;

/** The command, for `tower` itself and for `selvedge tower`. */
export function towerCommand(): Command {
  const command = new Command('tower')
    .description('the control plane of a cluster')
    .addHelpText('after', '\nExamples:\n  selvedge tower init --cluster edge\n  selvedge tower run --listen 203.0.113.5');
  withUnseal(command.command('init').description('make a cluster and print the fingerprint of its root'), 'seals the store; made if it is missing')
    .requiredOption('--cluster <name>', 'name of the cluster: lower-case letters, digits, hyphens')
    .option('--vtep-range <cidr>', `where hosts of app networks have their outer addresses (default: ${DEFAULT_VTEP_RANGE})`)
    .option('--signer <place>', 'where the key is that signs leaves and snapshots: sealed, pkcs11:… or kms:… (default: sealed)')
    .option('--root-signer <place>', "where the root's key is, which signs intermediates only (default: sealed)")
    .option('--json', 'print JSON')
    .addHelpText('after', initExamples)
    .action((flags: InitFlags) => init(flags));
  const run_ = withUnseal(
    command.command('run').description('serve the cluster: API and fabric on one TCP port, QUIC on UDP'),
    'unseals the store, as `init` made or took it',
  );
  withServerCertificate(run_)
    .option('--config <file>', 'configuration file (YAML); flags win over it')
    .option('--listen <address>', 'address to listen on', '::')
    .option('--port <port>', 'TCP port, and UDP port unless --udp-port is given', parsePort, DEFAULT_PORT)
    .option('--udp-port <port>', 'UDP port for QUIC', parsePort)
    .option('--advertise <address...>', 'addresses at which nodes find the tower (default: --listen)')
    .option('--service-tokens <file>', 'file of static tokens by which services ask the API: NAME SCOPES TOKEN on each line, mode 0600')
    .option('--no-governor', 'leave the queue of the network to itself (for comparison)')
    .addHelpText('after', '\nExamples:\n  selvedge tower run --listen 203.0.113.5\n  selvedge tower run --config /etc/selvedge/tower.yaml')
    .action(async (flags: { readonly config?: string }, self: Command) => {
      await applyConfig(self, flags.config, TowerConfig);
      await run(self.opts<RunFlags>());
    });
  command
    .command('backup')
    .description('write a running tower into one file, and check it')
    .argument('<file>', 'a file that is not there yet')
    .option('--state <dir>', 'state directory of the tower', DEFAULT_STATE)
    .option('--socket <path>', "the tower's Unix socket")
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe key file or passphrase that unseals the tower is not in it: keep it apart.\n\nExample:\n  selvedge tower backup /var/backups/tower-2027-01-31.backup',
    )
    .action(backup);
  withUnseal(
    command.command('restore').description('make a state directory from a backup').argument('<file>', 'as `tower backup` wrote it'),
    'unseals the store, as of the tower that was backed up',
  )
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge tower restore /var/backups/tower-2027-01-31.backup --state /var/lib/selvedge/tower')
    .action((file: string, flags: RestoreFlags) => restore(file, flags));
  return command;
}
