/**
 * One of the three: the host, which serves echoes; an honest peer, which prints the round trip of each of its echoes on `input`; a hostile one, which prints `on` once it
 * is at it. All of them run until they are ended.
 */
import { Host, type HostOptions } from '../../src/peering/host.ts';
import { serveEcho } from '../../src/services/echo.ts';
import { ACCEPTOR, CLUSTER, ECHO_BYTES, SITE } from '../subject.ts';
import { beHostile } from './peer.ts';
import { ADDRESS, PORT, readSetting, type Setting } from './setting.ts';

/** Between two echoes; they do not wait for each other. */
const ECHO_INTERVAL_MS = 10;

const setting = readSetting(process.argv[2] ?? '');
switch (setting.role) {
  case 'host':
    await serve(setting);
    break;
  case 'honest':
    await ask(setting);
    break;
  case 'hostile':
    await beHostile(setting);
    break;
}

function hostOptions({ node, credentials, root }: Setting): Omit<HostOptions, 'listen'> {
  return {
    self: { cluster: CLUSTER, site: SITE, node },
    credentials: () => credentials,
    roots: () => [root],
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (id) => id,
    onHttp: null,
    isGoverned: true,
    log: () => {},
    onChange: () => {},
  };
}

async function serve(own: Setting): Promise<void> {
  const { mesh } = await Host.start({ ...hostOptions(own), listen: { host: ADDRESS, tcpPort: PORT, udpPort: PORT } });
  serveEcho(mesh);
  console.log('ready');
}

async function ask(own: Setting): Promise<void> {
  const { promise: established, resolve } = Promise.withResolvers<void>();
  const onChange = (): void => {
    if (host.mesh.status()[0]?.state === 'established') resolve();
  };
  const host = await Host.start({ ...hostOptions(own), listen: null, onChange });
  const endpoint = { host: ADDRESS, tcp: own.transport === 'tcp' ? PORT : null, udp: own.transport === 'quic' ? PORT : null };
  host.mesh.setCandidates([{ identity: { cluster: CLUSTER, site: SITE, node: ACCEPTOR }, name: 'host', endpoints: [endpoint], isDialed: true }]);
  await established;
  const flow = host.mesh.open(ACCEPTOR, 'input', 'messages', 'echo');
  const asked: number[] = [];
  setInterval(() => {
    asked.push(performance.now());
    flow.send(new Uint8Array(ECHO_BYTES));
  }, ECHO_INTERVAL_MS);
  for (let answer = await flow.receive(); answer !== null; answer = await flow.receive()) console.log((performance.now() - (asked.shift() ?? 0)).toFixed(3));
  throw new Error(`the flow has ended: ${(await flow.closed)?.message}`);
}
