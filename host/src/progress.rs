//! Progress of long work.
pub struct Progress { what: String, total: u64, from: u64, unit: String, began: std::time::Instant, told: std::time::Instant }
impl Progress {
    pub fn new(what: &str, total: u64, unit: &str) -> Progress {
        let now = std::time::Instant::now();
        Progress { what: what.into(), total, from: 0, unit: unit.into(), began: now, told: now }
    }
    pub fn start_at(&mut self, done: u64) { self.from = done; }
    pub fn set(&mut self, done: u64, message: &str) {
        if self.told.elapsed().as_secs() < 10 { return; }
        self.told = std::time::Instant::now();
        let rate = (done - self.from) as f64 / self.began.elapsed().as_secs_f64();
        eprintln!("{}  {done}/{} {}  {rate:.0}/s  {:.0} min left  {message}", self.what, self.total, self.unit, (self.total - done) as f64 / rate / 60.0);
    }
    pub fn finish(&mut self, message: &str) { eprintln!("{}  done  {message}", self.what); }
}
