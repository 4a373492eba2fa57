/** What the attacks of hostile*.test.ts are made with: a victim in a process of its own, sessions that say anything, and an honest neighbour that must notice nothing. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { SelvedgeError } from '../../src/base/errors.ts';
import type { NodeIdentity } from '../../src/base/ids.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import { FrameDecoder } from '../../src/channel/frame-decoder.ts';
import { type ControlFrame, frameTypes } from '../../src/channel/frames.ts';
import { decodeHello, encodeHello, type Hello } from '../../src/channel/hello.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import { CONTROL_FLOW, type Credentials, type Session } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { makeAuthority, type TestAuthority } from '../fixtures/certs.ts';
import type { VictimFacts, VictimSetting } from './fixtures/victim.ts';
import { alpha, beta, type ScenarioHost, startHost } from './hosts.ts';
import { type ScenarioTransport, transports } from './ways.ts';

export const MIB = 1024 * 1024;
const VICTIM = fileURLToPath(new URL('./fixtures/victim.ts', import.meta.url));

export const mallory: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0e0000000666' };

export interface Victim {
  readonly tcp: number;
  readonly udp: number;
  readonly authority: TestAuthority;
  readonly inbox: string;
  readonly child: ChildProcess;
  facts(): Promise<VictimFacts>;
  /** Ends it and fails the test if it did not end by itself, well, within seconds. */
  stop(): Promise<void>;
}

/** A victim as node `beta` of a cluster of its own. */
export async function startVictim(t: Test): Promise<Victim> {
  const authority = await makeAuthority('test');
  const credentials = await authority.issue({ node: beta.node, site: beta.site });
  const inbox = t.testdir({});
  const child = fork(VICTIM, { execArgv: ['--expose-gc'], serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const setting: VictimSetting = { self: beta, credentials, root: authority.root, inbox };
  child.send(setting);
  const [ports] = (await once(child, 'message')) as [{ tcp: number; udp: number }];
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      if (child.connected) child.send('stop');
      const late = setTimeout(() => child.kill('SIGKILL'), 9_000);
      t.same(await exited, [0, null], 'the victim ends by itself, and no error went unhandled');
      clearTimeout(late);
    })();
    return stopping;
  };
  // For a test that failed before it stopped its victim.
  t.teardown(() => child.kill('SIGKILL'));
  return {
    ...ports,
    authority,
    inbox,
    child,
    async facts() {
      child.send('facts');
      const [facts] = (await once(child, 'message')) as [VictimFacts];
      return facts;
    },
    stop,
  };
}

/** An honest node with a channel to the victim; `echo` proves that it works. */
export async function honestNode(
  t: Test,
  victim: Victim,
  transport: ScenarioTransport = 'quic',
  node = alpha.node,
): Promise<{ host: ScenarioHost; echo(): Promise<void> }> {
  const host = await startHost(t, { self: { ...alpha, node }, authority: victim.authority, transport });
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? victim.tcp : null, udp: transport === 'quic' ? victim.udp : null };
  host.host.mesh.setCandidates([{ identity: beta, name: 'victim', endpoints: [endpoint], isDialed: true }]);
  await host.until((status) => status.some(({ state, transport }) => state === 'established' && transport !== null));
  const flow = host.host.mesh.open(beta.node, 'input', 'messages', 'echo');
  let count = 0;
  return {
    host,
    async echo() {
      const said = Uint8Array.of(++count);
      flow.send(said);
      t.same(await flow.receive(), said, 'the honest neighbour is served on the channel that it had');
    },
  };
}

/** A session of a hostile node, past its hello unless told; it hears, and says only what the test says. */
export interface Hostile {
  readonly session: Session;
  readonly accept: Hello | null;
  /** Why the victim ended it. */
  readonly closed: Promise<SelvedgeError>;
  readonly control: ControlFrame[];
  /** Octets of flows that came. */
  received: number;
  /** Writes whole frames of one source; QUIC: a stream for each flow. */
  say(flow: number, ...frames: (Uint8Array | null)[]): void;
  /** Waits until the transport takes more. */
  ready(): Promise<void>;
  /** The first control frame that fits, also one that came before. */
  heard(fits: (frame: ControlFrame) => boolean): Promise<ControlFrame>;
}

export interface HostileOptions {
  readonly transport: ScenarioTransport;
  readonly identity?: NodeIdentity;
  readonly credentials?: Credentials;
  /** Null: no hello is said. */
  readonly hello?: Partial<Hello> | null;
}

export async function hostile(t: Test, victim: Victim, options: HostileOptions): Promise<Hostile> {
  const identity = options.identity ?? mallory;
  const credentials = options.credentials ?? (await victim.authority.issue({ node: identity.node, site: identity.site }));
  const dialer = options.transport === 'quic' ? new QuicTransport() : new TcpTransport();
  t.teardown(() => dialer.close());
  const port = options.transport === 'quic' ? victim.udp : victim.tcp;
  const session = await dialer.dial({ host: '127.0.0.1', port }, credentials, new AbortController().signal);
  const closed = Promise.withResolvers<SelvedgeError>();
  const accepted = Promise.withResolvers<Hello | null>();
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const check of [...waiting]) check();
  };
  const control: ControlFrame[] = [];
  const decoders = new Map<number, FrameDecoder>();
  const result = { received: 0 };
  const sink = {
    data: (_head: unknown, _offset: number, piece: Uint8Array) => {
      result.received += piece.length;
    },
    latest: (_head: unknown, piece: Uint8Array) => {
      result.received += piece.length;
    },
    datagram: (_flow: number, bytes: Uint8Array) => {
      result.received += bytes.length;
    },
    hello: (_type: string, body: Uint8Array) => accepted.resolve(decodeHello(body)),
    control: (frame: ControlFrame) => {
      control.push(frame);
    },
  };
  session.approve({
    data(source, bytes) {
      const decoder = decoders.get(source) ?? new FrameDecoder(sink);
      decoders.set(source, decoder);
      decoder.push(bytes);
      wake();
    },
    sourceEnd: () => {},
    ready: wake,
    writable: () => {},
    datagram: () => {},
    finished: () => {},
    closed: (why) => {
      closed.resolve(why);
      accepted.resolve(null);
      wake();
    },
  });
  const until = <T>(look: () => T | null): Promise<T> =>
    new Promise((resolve) => {
      const check = (): void => {
        const found = look();
        if (found === null) return;
        waiting.delete(check);
        resolve(found);
      };
      waiting.add(check);
      check();
    });
  if (options.hello !== null) session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', { ...helloOf(identity), ...options.hello }), null);
  const accept = options.hello === null ? null : await accepted.promise;
  return {
    session,
    accept,
    closed: closed.promise,
    control,
    get received() {
      return result.received;
    },
    say(flow, ...frames) {
      for (const frame of frames) if (frame) session.write(flow, 'urgent', 50, frame, null);
    },
    ready: () => until(() => (session.isClosed || session.ready('urgent') ? true : null)).then(() => undefined),
    heard: (fits) => until(() => control.find(fits) ?? null),
  };
}

export function helloOf(identity: NodeIdentity): Hello {
  return {
    version: 1,
    mode: 'new',
    channel: new Uint8Array(16),
    secret: new Uint8Array(32),
    cluster: identity.cluster,
    node: identity.node,
    classes: trafficClassNames,
    transports: ['quic', 'tcp'],
    configVersion: 0,
    directoryVersion: 0,
    trustVersion: 0,
    routeEpoch: 0,
    draining: false,
    return_ms: 0,
  };
}

/** Any octets as a frame of any type. */
export function rawFrame(type: keyof typeof frameTypes | number, body: Uint8Array): Uint8Array {
  const number = typeof type === 'number' ? type : frameTypes[type];
  const head =
    body.length < 64
      ? [body.length]
      : body.length < 16_384
        ? [0x40 | (body.length >> 8), body.length & 255]
        : [0x80, body.length >> 16, (body.length >> 8) & 255, body.length & 255];
  return Uint8Array.of(number, ...head, ...body);
}

/** Runs one attack over each transport, against a victim of its own, beside an honest neighbour that is asked before and after. */
export function attack(t: Test, promise: string, run: (t: Test, victim: Victim, transport: ScenarioTransport) => Promise<void>): void {
  for (const transport of transports) {
    t.test(`${promise} (${transport})`, async (t) => {
      const victim = await startVictim(t);
      const honest = await honestNode(t, victim, transport === 'quic' ? 'tcp' : 'quic');
      await honest.echo();
      await run(t, victim, transport);
      await honest.echo();
      await honest.host.host.close();
      await victim.stop();
    });
  }
}
