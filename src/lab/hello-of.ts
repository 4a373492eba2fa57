/** The hello of somebody who knows nothing yet, as an attacker says it, or whoever speaks raw: of the lab, and of tests. */
import { trafficClassNames } from '../channel/classes.ts';
import { CHANNEL_ID_BYTES, CHANNEL_SECRET_BYTES, type Hello, PROTOCOL_VERSION } from '../channel/hello.ts';

export function helloOf({ cluster, node }: Pick<Hello, 'cluster' | 'node'>, changes: Partial<Hello> = {}): Hello {
  return {
    version: PROTOCOL_VERSION,
    mode: 'new',
    channel: new Uint8Array(CHANNEL_ID_BYTES),
    secret: new Uint8Array(CHANNEL_SECRET_BYTES),
    cluster,
    node,
    classes: trafficClassNames,
    transports: ['quic', 'tcp'],
    configVersion: 0,
    directoryVersion: 0,
    trustVersion: 0,
    routeEpoch: 0,
    draining: false,
    return_ms: 0,
    ...changes,
  };
}
