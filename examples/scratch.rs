use pgio::*;
use std::time::Instant;
#[tokio::main]
async fn main() -> Result<()> {
    let e = Emitter::connect("postgres://postgres@127.0.0.1:55434/postgres").await?;
    let mut sub = e.cluster().subscribe(&[Namespace::default()], |h| h.is_some()).await?;
    let n = 200_000u64;
    let t = tokio::spawn(async move {
        let mut got = 0;
        while got < n {
            match sub.next().await.unwrap() {
                cluster::Event::Message(_) => got += 1,
                o => println!("{o:?}"),
            }
        }
        got
    });
    for same in [false] {
        let s = Instant::now();
        let mut last = None;
        for i in 0..n {
            last = Some(e.enqueue("ping", (if same { 1 } else { i }, "<>")).await?);
        }
        last.unwrap().await?;
        let d = s.elapsed();
        println!("same={same} published {n} in {d:?} = {:.0}/s", n as f64 / d.as_secs_f64());
        println!("received after {:?}", {
            t.await.unwrap();
            s.elapsed()
        });
        break;
    }
    let s = Instant::now();
    let mut last = None;
    for _ in 0..n {
        last = Some(e.enqueue("ping", (1, "<>")).await?);
    }
    last.unwrap().await?;
    let d = s.elapsed();
    println!("equal: {:.0}/s", n as f64 / d.as_secs_f64());
    Ok(())
}
