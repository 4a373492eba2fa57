/** The node's daemon. Reads the command line and its configuration file, wires, runs until SIGINT or SIGTERM; no logic. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { refuseIfInUse } from '../../src/api/local-socket.ts';
import { programFacts } from '../../src/api/program.ts';
import { SelvedgeError } from '../../src/base/errors.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { hostFacts } from '../../src/enroll/host-facts.ts';
import { CALL_HOME_FILE, callHomeBy } from '../../src/enroll/preflight.ts';
import { readIdentity } from '../../src/enroll/state.ts';
import { lifetimeOf } from '../../src/identity/lifetime.ts';
import { DEFAULT_KEY_FILE } from '../../src/identity/unseal.ts';
import { Agent } from '../../src/node/agent.ts';
import type { AppConfig } from '../../src/node/app.ts';
import { controlServer } from '../../src/node/control-server.ts';
import { nodeExplainer } from '../../src/node/policy-route.ts';
import { joinKey } from '../../src/node/join-key.ts';
import { keepSecrets } from '../../src/native.ts';
import { startKey } from '../../src/node/start-key.ts';
import { systemRandom, systemTimers } from '../../src/transport/system.ts';
import { descriptor, unsealOption, type UnsealFlags, willBeSiteSealed } from '../cli/arguments.ts';
import { type AdmissionConfig, admissionRate, applyConfig, type DrainConfig, drainSettings, type MetricsConfig, NodeConfig } from '../config.ts';
import { makeObservatory, observe } from '../observe.ts';
import { openServerCertificate, type ServerCertificateFlags, withServerCertificate } from '../server-certificate.ts';
import { abortOn, Closers, endSoon, isStop, makeLog, parsePort, untilStopped } from '../run.ts';

const DEFAULT_STATE = '/var/lib/selvedge/node';
const DEFAULT_PORT = 443;

interface Flags extends UnsealFlags, AppConfig, ServerCertificateFlags {
  readonly state: string;
  readonly listen?: string;
  readonly port: number;
  readonly advertise?: string[];
  readonly governor: boolean;
  /** Of the configuration file alone. */
  readonly drain?: DrainConfig;
  readonly metrics?: MetricsConfig;
  readonly admission?: AdmissionConfig;
}

async function run({ state, listen, port, advertise, governor, drain, metrics, admission, ...rest }: Flags): Promise<void> {
  keepSecrets();
  const closers = new Closers();
  const seen = makeObservatory();
  const log = seen.listen(makeLog());
  const settings = drainSettings(drain);
  // From the first moment: what was opened so far is closed in any case.
  const stopped = untilStopped();
  try {
    // Before its key: on a host that has not joined, neither is there, and joining makes both.
    if ((await readIdentity(state)) === null) await finishPreflight(state, rest, abortOn(stopped), log);
    const socket = join(state, 'selvedged.sock');
    await refuseIfInUse(socket);
    const unseal = await startKey({ state, source: rest, signal: abortOn(stopped), log });
    const at = listen === undefined ? null : { host: listen, port, advertise: advertise ?? [listen] };
    const server = await openServerCertificate(rest, log);
    closers.add(() => server?.close());
    const given = { state, unseal, listen: at, server, isGoverned: governor, admission: admissionRate(admission), app: rest };
    const agent = await Agent.start({ ...given, log, observer: seen });
    closers.add(() => agent.close());
    const { cluster, site, node, name } = agent.state.identity;
    const observed = await observe(
      seen,
      agent.mesh,
      {
        versions: () => agent.versions,
        certificateEnds_ms: () => lifetimeOf(agent.state.credentials.chain[0]).notAfter_ms,
        apps: () => agent.apps.counters(),
        snapshot: () => ({ issued_ms: agent.state.snapshot.issued_ms, expires_ms: agent.state.snapshotExpires_ms }),
      },
      metrics,
      closers,
    );
    const control = await controlServer(socket, {
      observed,
      mesh: agent.mesh,
      timers: systemTimers,
      apps: agent.apps,
      explain: nodeExplainer(() => agent.state.snapshot),
      facts: () => ({ ...agent.facts, ...programFacts(agent.listening) }),
      renew: () => agent.renew(),
      drain: { host: agent.mesh, settings },
    });
    closers.add(() => control.close());
    log('node runs', { cluster, site, node, name, listen: listen ?? null, port: listen === undefined ? null : port });
    const signal = await stopped;
    log('node stops', { signal });
    await agent.mesh.drain({ deadline_ms: settings.stop_ms, force: true });
  } catch (error) {
    // Asked to end while it waited for somebody who says the key of its store.
    if (!isStop(error)) throw error;
  } finally {
    endSoon(log);
    await closers.close();
  }
}

/** What an installer began with `selvedge preflight` becomes a node at the first start. @throws not_enrolled where nobody did */
async function finishPreflight(state: string, source: UnsealFlags, signal: AbortSignal, log: ReturnType<typeof makeLog>): Promise<void> {
  const file = join(state, CALL_HOME_FILE);
  if (!existsSync(file)) throw new SelvedgeError('not_enrolled', { path: state });
  const isSiteSealed = willBeSiteSealed(source);
  const how = await callHomeBy(file, systemTimers.clock.wall());
  const unseal = await joinKey({ state, source, isSiteSealed, signal, log });
  const facts = await hostFacts(how.cluster);
  const onRetry = (error: SelvedgeError) => log('call-home fails', { code: error.code, reason: error.message });
  const given = { ...how, state, unseal, isSiteSealed, listen: [], ...(facts !== null && { facts }), signal, onRetry };
  try {
    await callHome({ ...given, timers: systemTimers, random: systemRandom });
  } catch (error) {
    // What being asked to end looks like from within a request is no failure of the tower.
    signal.throwIfAborted();
    throw error;
  }
}

export function selvedgedCommand(): Command {
  return withServerCertificate(new Command('selvedged').description('keeps this host in the mesh'))
    .option('--config <file>', 'configuration file (YAML); flags win over it')
    .option('--state <dir>', 'state directory, as `selvedge join` made it', DEFAULT_STATE)
    .option('--key-file <file>', `key file that unseals the store (default for a store that is sealed with one: ${DEFAULT_KEY_FILE})`)
    .option('--passphrase-file <file>', 'file with a passphrase instead', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with a passphrase', descriptor)
    .addOption(unsealOption())
    .option('--listen <address>', 'address on which peers of the site find this node (default: listen nowhere; such a node is a full member)')
    .option('--port <port>', 'TCP and UDP port to listen on', parsePort, DEFAULT_PORT)
    .option('--advertise <address...>', 'addresses that peers are told (default: --listen)')
    .option('--no-governor', 'leave the queue of the network to itself (for comparison)')
    .addOption(
      new Option('--wireguard-engine <engine>', 'who encrypts app networks: the kernel, or selvedge-tunnel itself').choices(['auto', 'kernel', 'user']),
    )
    .option('--wireguard-port <port>', 'UDP port of WireGuard (default: 51820; the next one while keys change)', parsePort)
    .option('--tunnel-socket <path>', 'socket of selvedge-tunnel (default: tunnel.sock in the state directory)')
    .addHelpText('after', '\nExamples:\n  selvedged --state /var/lib/selvedge/node --listen 192.0.2.7\n  selvedged --config /etc/selvedge/node.yaml')
    .action(async (flags: { readonly config?: string }, self: Command) => {
      await applyConfig(self, flags.config, NodeConfig);
      await run(self.opts<Flags>());
    });
}
