/**
 * Every chain of the table over both live transports, shown by a dialer to a real host and by a listener to one: the same verdict everywhere, and the same code, but for those that
 * TLS itself ends before anybody asks for a verdict. Each of these has its reason in `tlsEnds`.
 */
import { generateKeyPairSync } from 'node:crypto';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import type { RecordedFingerprint } from '../../src/identity/verify.ts';
import { checkTlsCredentials } from '../../src/native-tls.ts';
import { Host } from '../../src/peering/host.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { type ChainCase, chainCases, roots, victimCredentials, type Verdict } from '../unit/identity/chains/index.ts';
import { CLUSTER, NODE } from '../unit/identity/forge.ts';
import { type Outcome, Presenter } from './chain-presenter.ts';
import type { ScenarioTransport } from './ways.ts';

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

/** Of P-256, to sign with where the leaf's own key is of a kind that TLS does not ask for: the proof is wrong then, as any would be. */
const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const isP256 = ({ keys }: ChainCase): boolean => keys.publicKey.asymmetricKeyDetails?.namedCurve === 'prime256v1';

function credentialsOf(one: ChainCase): Credentials {
  const key = isP256(one) ? one.keys.privateKey : otherKey;
  return { chain: one.chain, key: new Uint8Array(key.export({ format: 'der', type: 'pkcs8' })) };
}

/** Why TLS ends it, whatever the verdict would be; null: it does not, and the verdict is heard. */
function tlsEnds(one: ChainCase): string | null {
  if (one.chain.length > limits.certificate_chain_certs_max) return 'more certificates than are read';
  if (one.chain.some((der) => der.length > limits.certificate_bytes_max)) return 'a certificate of more octets than are read';
  if (!isP256(one)) return 'a key of which TLS asks for no proof';
  try {
    checkTlsCredentials(credentialsOf(one));
    return null;
  } catch {
    return 'a leaf in which TLS finds no key, or another than the one that signs';
  }
}

/** What either end hears then: an alert, or, where it was still sending, that the other is gone. */
const endsOfTls: ReadonlySet<Outcome> = new Set<Outcome>(['tls', 'gone', 'tls_handshake_failed', 'network_unreachable']);

function agrees(found: Outcome, expected: Verdict, one: ChainCase): boolean {
  // Only a TCP listener asks for a certificate without insisting, since HTTP shares its port: the verdict on none is ours there.
  if (one.chain.length === 0 && found === expected) return true;
  return tlsEnds(one) === null ? found === expected : expected !== 'accepted' && endsOfTls.has(found);
}

async function dialVictim({ host, state }: Victim, presenter: Presenter, transport: ScenarioTransport, one: ChainCase): Promise<Outcome> {
  state.recorded = one.recorded ?? 'any';
  const port = transport === 'quic' ? host.listener?.udp?.port : host.listener?.tcp.port;
  const outcome = await presenter.dial(transport, port ?? 0, credentialsOf(one));
  // It was accepted as what it says: policy, which is asked next, has no channel between sites.
  return outcome === 'policy_denied' ? 'accepted' : outcome;
}

async function victimDials({ host, state }: Victim, presenter: Presenter, transport: ScenarioTransport, one: ChainCase): Promise<Outcome> {
  const place = await presenter.stand(transport, credentialsOf(one));
  state.recorded = one.recorded ?? 'any';
  const failed = new Promise<Outcome>((resolve) => (state.heard = (code) => resolve(code as Outcome)));
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? place.port : null, udp: transport === 'quic' ? place.port : null };
  host.mesh.setCandidates([{ identity: { cluster: CLUSTER, site: 's1', node: NODE }, name: 'wanted', endpoints: [endpoint], isDialed: true }]);
  // What counts is what the victim did: it said hello, or it says why it did not.
  const said = place.outcome.then((outcome) => (outcome === 'accepted' ? outcome : failed));
  const outcome = await Promise.race([said, failed]);
  host.mesh.setCandidates([]);
  place.close();
  return outcome;
}

const presenter = await Presenter.start(t);

for (const transport of ['quic', 'tcp'] as const) {
  t.test(`what a dialer shows a host gets the verdict of the table (${transport})`, async (t) => {
    const victim = await startVictim(t);
    await judge(t, (one) => dialVictim(victim, presenter, transport, one), 'asClient');
  });

  t.test(`what a listener shows a host gets the verdict of the table (${transport})`, async (t) => {
    const victim = await startVictim(t);
    await judge(t, (one) => victimDials(victim, presenter, transport, one), 'asServer');
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
  const reasons = new Map<string, number>();
  for (const reason of chainCases.map(tlsEnds).filter((each) => each !== null)) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  t.comment(`ended by TLS, of ${chainCases.length}: ${JSON.stringify(Object.fromEntries(reasons))}`);
}
