/** Where the tower's parts find it; nodes bound what is asked of them in the same way. */
export { RateLimit } from '../api/rate-limit.ts';
