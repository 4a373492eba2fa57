/** What iperf3 says with `-J`. */

export interface IperfEnd {
  readonly sum_received: { readonly bytes: number; readonly bits_per_second: number };
  /** Of UDP. */
  readonly sum?: { readonly packets: number; readonly lost_packets: number; readonly seconds: number };
}

/** The totals at the end. @throws what iperf3 itself gives as its error: a run that failed has an empty end */
export function iperfEnd(text: string): IperfEnd {
  const { end, error } = JSON.parse(text) as { readonly end?: Partial<IperfEnd>; readonly error?: string };
  if (error !== undefined || end?.sum_received === undefined) throw new Error(`iperf3: ${error ?? 'no totals'}`);
  return { ...end, sum_received: end.sum_received };
}
