/** The value that `part` of the samples do not exceed (nearest rank), or null without samples. */
export function percentile(samples: readonly number[], part: number): number | null {
  if (samples.length === 0) return null;
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? null;
}
