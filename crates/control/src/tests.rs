mod desk;
mod served;
mod world;
