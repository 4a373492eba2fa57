/** The wire in a test's own hands: a session on which it writes whatever frames it likes, in whatever order. */
import type { Test } from 'tap';
import type { SelvedgeError } from '../../src/base/errors.ts';
import { FrameDecoder } from '../../src/channel/frame-decoder.ts';
import { helloOf } from '../../src/lab/hello-of.ts';
import type { Credentials, Session } from '../../src/transport/session.ts';
import { alpha, type ScenarioHost } from './hosts.ts';
import { portOf, type ScenarioWay, wayOf } from './ways.ts';

/** It offers no class. */
export const hello = helloOf(alpha, { classes: [] });

/** A session that was dialed with a certificate of the cluster, and of which every octet is the test's. */
export async function hostileSession(t: Test, way: ScenarioWay, { endpoint }: ScenarioHost, credentials: Credentials): Promise<{ session: Session }> {
  const target = { host: endpoint.host, port: portOf(endpoint) };
  return { session: await wayOf(way).dialer(t).dial(target, credentials, new AbortController().signal) };
}

/** Approves a session and hears what comes: the first reset, and the end. */
export function speak(session: Session): { error: Promise<SelvedgeError>; firstReset: Promise<unknown> } {
  const error = Promise.withResolvers<SelvedgeError>();
  const firstReset = Promise.withResolvers<unknown>();
  const decoder = new FrameDecoder({
    data: () => {},
    latest: () => {},
    datagram: () => {},
    hello: () => {},
    control: (frame) => {
      if (frame.type === 'reset') firstReset.resolve(frame);
    },
  });
  session.approve({
    // All that is awaited comes on the control source.
    data: (_source, bytes) => decoder.push(bytes),
    sourceEnd: () => {},
    ready: () => {},
    writable: () => {},
    datagram: () => {},
    finished: () => {},
    closed: (why) => error.resolve(why),
  });
  return { error: error.promise, firstReset: firstReset.promise };
}
