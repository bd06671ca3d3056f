mod desk;
mod metrics;
mod served;
mod world;
