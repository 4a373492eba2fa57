/**
 * Every chain of the table over both live transports, shown by a dialer to a real host and by a listener to one: the same verdict
 * everywhere, and the same code, but where TLS itself ends it, since it cannot prove possession of such a key or read such a leaf.
 */
import t, { type Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import type { RecordedFingerprint } from '../../src/identity/verify.ts';
import { checkTlsCredentials } from '../../src/native-tls.ts';
import { Host } from '../../src/peering/host.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { type ChainCase, chainCases, roots, victimCredentials, type Verdict } from '../unit/identity/chains/index.ts';
import { CLUSTER, NODE } from '../unit/identity/forge.ts';
import { type Outcome, Presenter, stand } from './chain-presenter.ts';
import type { ScenarioTransport } from './hosts.ts';

/** A host that knows nobody but by the case at hand; `heard` is how its last dial ended. */
async function startVictim(t: Test) {
  const state = { recorded: 'any' as RecordedFingerprint, heard: (_code: string): void => {} };
  const host = await Host.start({
    self: { cluster: CLUSTER, site: 's1', node: 'bbbbbbbbbbbb' },
    credentials: () => victimCredentials,
    roots: () => roots,
    recordedFingerprint: () => state.recorded,
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (node) => node,
    listen: { host: '127.0.0.1', tcpPort: 0, udpPort: 0 },
    onHttp: null,
    isGoverned: false,
    log: (message, { code }) => {
      if (message === 'dial failed') state.heard(String(code));
    },
    onChange: () => {},
  });
  t.teardown(() => host.close());
  return { host, state };
}

type Victim = Awaited<ReturnType<typeof startVictim>>;

const credentialsOf = ({ chain, keys }: ChainCase): Credentials => ({ chain, key: new Uint8Array(keys.privateKey.export({ format: 'der', type: 'pkcs8' })) });

/**
 * What an end hears whose handshake was ended: an alert, or, where it was still sending, that the other is gone; or it cannot begin one. A stack that has no
 * use for its key shows an empty chain instead, which is our verdict's to refuse.
 */
const endsOfTls: ReadonlySet<Outcome> = new Set<Outcome>(['tls_handshake_failed', 'network_unreachable', 'session_closed', 'unshown', 'certificate_invalid']);

/** TLS itself ends it, before anybody asks for a verdict: it takes no such chain, or cannot read such a leaf or prove such a key. */
function endsInTls(one: ChainCase): boolean {
  if (one.chain.length > limits.certificate_chain_certs_max || one.chain.some((der) => der.length > limits.certificate_bytes_max)) return true;
  if (one.keys.publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return true;
  try {
    checkTlsCredentials(credentialsOf(one));
    return false;
  } catch {
    return true;
  }
}

function agrees(found: Outcome, expected: Verdict, one: ChainCase): boolean {
  // What no stack at hand would show says nothing; each of them is shown by another, or in the other direction, or told by endsInTls.
  if (found === 'unshown') return true;
  return endsInTls(one) ? expected !== 'accepted' && endsOfTls.has(found) : found === expected;
}

async function dialVictim({ host, state }: Victim, presenter: Presenter, transport: ScenarioTransport, one: ChainCase): Promise<Outcome> {
  state.recorded = one.recorded ?? 'any';
  const port = transport === 'quic' ? host.listener?.udp?.port : host.listener?.tcp.port;
  return await presenter.dial(transport, port ?? 0, credentialsOf(one));
}

async function victimDials({ host, state }: Victim, transport: ScenarioTransport, one: ChainCase): Promise<Outcome> {
  const place = await stand(transport, credentialsOf(one));
  if (place === null) return 'unshown';
  state.recorded = one.recorded ?? 'any';
  const failed = new Promise<Outcome>((resolve) => (state.heard = (code) => resolve(code as Outcome)));
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? place.port : null, udp: transport === 'quic' ? place.port : null };
  host.mesh.setCandidates([{ identity: { cluster: CLUSTER, site: 's1', node: NODE }, name: 'wanted', endpoints: [endpoint], isDialed: true }]);
  // What counts is what the victim did: it said hello, or it says why it did not.
  const said = place.outcome.then((outcome) => (outcome === 'accepted' ? outcome : failed));
  const outcome = await Promise.race([said, failed]);
  host.mesh.setCandidates([]);
  await place.close();
  return outcome;
}

for (const transport of ['quic', 'tcp'] as const) {
  t.test(`what a dialer shows a host gets the verdict of the table (${transport})`, async (t) => {
    const victim = await startVictim(t);
    const presenter = new Presenter();
    t.teardown(() => presenter.close());
    await judge(t, (one) => dialVictim(victim, presenter, transport, one), 'asClient');
  });

  t.test(`what a listener shows a host gets the verdict of the table (${transport})`, async (t) => {
    const victim = await startVictim(t);
    await judge(t, (one) => victimDials(victim, transport, one), 'asServer');
  });
}

async function judge(t: Test, show: (one: ChainCase) => Promise<Outcome>, side: 'asClient' | 'asServer'): Promise<void> {
  const counts = new Map<Outcome, number>();
  const wrong: unknown[] = [];
  for (const one of chainCases) {
    const found = await show(one);
    counts.set(found, (counts.get(found) ?? 0) + 1);
    if (!agrees(found, one[side], one)) wrong.push({ name: one.name, expected: one[side], found });
  }
  t.same(wrong, []);
  t.comment(JSON.stringify(Object.fromEntries(counts)));
}
